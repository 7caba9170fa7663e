// A guest, and the simulated QEMUs that may run it.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/base/status.h"
#include "tests/sim/world.h"

namespace godwit::sim {

constexpr int kPages = 6;
using Memory = std::array<int, kPages>;  // a version each

class Qemu;

// What the guest has written, whoever runs it: the truth that memory is held against.
struct Guest {
    Memory truth{};
    int last_version = 0;
    bool was_running = true;  // before the migration; a paused guest stays paused
    bool dead = false;        // the QEMU that ran it died by a fault
    bool ran_there = false;   // it has run at the destination
    // A fault took a QEMU that may rightly have had the guest: nobody need have it after that.
    bool may_be_lost = false;
    Qemu* runs_in = nullptr;
};

class Qemu {
  public:
    enum class State { kRunning, kPaused, kPreSwitchover, kPostMigrate, kInMigrate, kDead };

    Qemu(World& world, Guest& guest, std::string name, bool at_destination, State state)
        : world_(world),
          guest_(guest),
          name_(std::move(name)),
          at_destination_(at_destination),
          state_(state) {}

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] bool alive() const { return state_ != State::kDead; }
    [[nodiscard]] bool runs() const { return state_ == State::kRunning; }
    // `cont` was written to it: nobody but itself knows whether it ran.
    [[nodiscard]] bool cont_written() const { return cont_written_; }
    // Something that it was told is not carried out yet.
    [[nodiscard]] bool is_busy() const { return busy_until_ >= world_.now() || monitor_waits_for_; }
    Memory& memory() { return memory_; }
    std::set<int>& dirty() { return dirty_; }

    // --- memory of which an agent catches the faults; it stays so when that agent dies ---
    void catch_faults() { faults_are_caught_ = true; }
    // Faults are the kernel's again: a hole is zeros.
    void let_faults_be();
    [[nodiscard]] bool has_caught_faults() const { return faults_are_caught_; }
    [[nodiscard]] bool misses_pages() const;
    void punch(int page) { is_hole_.at(page) = true; }
    [[nodiscard]] bool misses(int page) const { return is_hole_.at(page); }
    // Written while nobody waits for it.
    void write_page(int page, int version);
    // Fills a hole, and wakes who waits for it. What is there stays, as with UFFDIO_COPY.
    void fill_page(int page, int version);
    // Whoever waits faults again.
    void wake_all();
    // Somebody needs a page that is a hole; called again only after wake_all().
    std::function<void(int page)> on_fault;

    // --- commands, from a thread; carried out though whoever sent them has died ---
    absl::Status migrate(Duration limit);           // STOP, pre-switchover
    absl::Status migrate_continue(Duration limit);  // device state
    absl::Status roll_back(bool run, Duration limit);
    absl::Status cont(Duration limit);

    // --- what happens to it ---
    void start_guest();  // it runs from here on, if it was not wrong to do so
    void write();        // the guest writes a page
    void device_state_came();
    void save_ended(bool well);
    void kill(const std::string& why);  // by its agent: dead and reaped
    void die(const std::string& why);   // by a fault

    // Events, for an agent that listens.
    std::function<void(const std::string& event)> on_event;
    // Its device state leaves; false when nobody takes it.
    std::function<bool()> on_device_state;

    // Faults:
    Duration slowness{};  // of what it is told next
    bool refuses_cont = false;
    bool fails_to_load = false;

  private:
    // `needs`: QEMU touches that page before it acts.
    absl::Status command(const std::string& name, Duration limit,
                         const std::function<absl::Status()>& act, std::optional<int> needs = {});
    // `then` is called once the page is there, which may be at once.
    void touch(int page, std::function<void()> then);
    void wake(int page);
    void tell(const std::string& event) {
        if (on_event) on_event(event);
    }
    void stop_guest(State state);
    void write_on(uint64_t run);

    World& world_;
    Guest& guest_;
    const std::string name_;
    const bool at_destination_;
    State state_;
    MonotonicTime busy_until_{};
    Memory memory_{};
    std::set<int> dirty_;
    uint64_t run_count_ = 0;
    bool cont_written_ = false;
    bool ran_before_save_ = false;

    bool faults_are_caught_ = false;
    std::array<bool, kPages> is_hole_{};
    struct Waiter {
        int page;
        std::function<void()> then;
    };
    std::vector<Waiter> waiters_;
    bool guest_waits_ = false;  // its vCPU, for a page
    std::optional<int> monitor_waits_for_;
};

}  // namespace godwit::sim
