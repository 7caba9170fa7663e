// A guest, and the simulated QEMUs that may run it.
#pragma once

#include <array>
#include <memory>
#include <set>
#include <string>

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
    [[nodiscard]] bool is_busy() const { return busy_until_ >= world_.now(); }
    Memory& memory() { return memory_; }
    std::set<int>& dirty() { return dirty_; }

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
    absl::Status command(const std::string& name, Duration limit,
                         const std::function<absl::Status()>& act);
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
};

}  // namespace godwit::sim
