// World: simulated time, chance, processes and their threads. One seed, one history.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "tests/sim/fiber.h"

namespace godwit::sim {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// What ends once and for all: an agent, a guard.
struct Process {
    std::string name;
    bool alive = true;
    bool stands_still = false;  // SIGSTOP, or a host that is too busy
};

// Unwinds the threads of a process that was killed: nothing of theirs is carried out any more.
struct Killed {};

class World final : public Clock {
  public:
    explicit World(uint64_t seed) : random_(seed) {}

    [[nodiscard]] MonotonicTime now() const override { return now_; }

    // Chance. The same seed, the same answers.
    uint64_t below(uint64_t end) { return random_() % end; }
    bool chance(unsigned percent) { return below(100) < percent; }
    Duration between(Duration least, Duration most) {
        return least + Duration(below((most - least).count() + 1));
    }

    // A thread of `process`.
    void spawn(const std::shared_ptr<Process>& process, std::string name,
               std::function<void()> body);
    // Something that happens by itself.
    void at(MonotonicTime time, std::function<void()> event) { events_.emplace(time, event); }
    void after(Duration time, std::function<void()> event) { at(now_ + time, std::move(event)); }

    // From a thread: others go on. Throw Killed once its process has ended.
    void sleep(Duration time);
    // False when the deadline came first.
    bool wait(MonotonicTime deadline, const std::function<bool()>& done);
    bool wait(Duration limit, const std::function<bool()>& done) {
        return wait(now_ + limit, done);
    }
    // `process` stands still meanwhile.
    void hold(const std::shared_ptr<Process>& process, Duration time);
    // A step at which anything may go wrong.
    void step(std::string_view name);

    // Told of every step, before it is taken.
    std::function<void(std::string_view)> on_step;

    // Until nothing happens any more, or `limit`.
    void run(Duration limit);
    // The end is near enough: run() returns.
    void stop() { stopped_ = true; }

    void say(const std::string& what);
    [[nodiscard]] const std::vector<std::string>& history() const { return history_; }
    // What must never be. The first one is kept.
    void violated(const std::string& what);
    [[nodiscard]] const std::string& violation() const { return violation_; }

  private:
    struct Thread {
        std::shared_ptr<Process> process;
        std::string name;
        std::unique_ptr<Fiber> fiber;
        MonotonicTime deadline;
        std::function<bool()> done;  // none: only the deadline
        [[nodiscard]] bool is_ready(MonotonicTime now) const {
            if (process->stands_still && process->alive) return false;
            return !process->alive || deadline <= now || (done && done());
        }
    };
    void wait_here(MonotonicTime deadline, std::function<bool()> done);
    void run_one(Thread& thread);

    std::mt19937_64 random_;
    MonotonicTime now_{seconds(1)};
    std::multimap<MonotonicTime, std::function<void()>> events_;
    std::list<Thread> threads_;
    Thread* current_ = nullptr;
    bool stopped_ = false;
    std::vector<std::string> history_;
    std::string violation_;
};

}  // namespace godwit::sim
