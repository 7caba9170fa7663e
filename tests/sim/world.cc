#include "tests/sim/world.h"

#include <fmt/format.h>

#include <algorithm>

namespace godwit::sim {

void World::spawn(const std::shared_ptr<Process>& process, std::string name,
                  std::function<void()> body) {
    threads_.push_back({.process = process,
                        .name = std::move(name),
                        .fiber = std::make_unique<Fiber>(std::move(body)),
                        .deadline = now_,
                        .done = {}});
}

void World::wait_here(MonotonicTime deadline, std::function<bool()> done) {
    Thread& here = *current_;
    if (!here.process->alive) throw Killed{};
    here.deadline = deadline;
    here.done = std::move(done);
    here.fiber->pause();
    if (!here.process->alive) throw Killed{};
}

void World::sleep(Duration time) { wait_here(now_ + time, {}); }

bool World::wait(MonotonicTime deadline, const std::function<bool()>& done) {
    if (!done()) wait_here(deadline, done);
    return done();
}

void World::hold(const std::shared_ptr<Process>& process, Duration time) {
    process->stands_still = true;
    after(time, [process] { process->stands_still = false; });
}

void World::step(std::string_view name) {
    if (on_step) on_step(name);
    wait_here(now_ + microseconds(below(200)), {});
}

void World::run_one(Thread& thread) {
    current_ = &thread;
    try {
        thread.fiber->run();
    } catch (const Killed&) {
        // Its process has ended.
    }
    current_ = nullptr;
}

void World::run(Duration limit) {
    const MonotonicTime end = now_ + limit;
    while (!stopped_ && violation_.empty()) {
        while (!events_.empty() && events_.begin()->first <= now_) {
            const auto event = std::move(events_.begin()->second);
            events_.erase(events_.begin());
            event();
        }
        std::vector<std::list<Thread>::iterator> ready;
        MonotonicTime next = events_.empty() ? MonotonicTime::max() : events_.begin()->first;
        for (auto thread = threads_.begin(); thread != threads_.end(); ++thread) {
            if (thread->is_ready(now_)) ready.push_back(thread);
            if (!thread->process->stands_still) next = std::min(next, thread->deadline);
        }
        if (ready.empty()) {
            if (next > end) break;
            now_ = std::max(now_, next);
            continue;
        }
        const auto chosen = ready[below(ready.size())];
        run_one(*chosen);
        if (chosen->fiber->ended()) threads_.erase(chosen);
    }
    // Whoever still waits is unwound, so that nothing is left on its stack.
    for (Thread& thread : threads_) thread.process->alive = false;
    while (!threads_.empty()) {
        Thread& thread = threads_.front();
        while (!thread.fiber->ended()) run_one(thread);
        threads_.pop_front();
    }
}

void World::say(const std::string& what) {
    history_.push_back(fmt::format(
        "{:12.6f} {}", std::chrono::duration<double>(now_.time_since_epoch() - seconds(1)).count(),
        what));
}

void World::violated(const std::string& what) {
    say("VIOLATED: " + what);
    if (violation_.empty()) violation_ = what;
}

}  // namespace godwit::sim
