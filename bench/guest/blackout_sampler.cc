#include "bench/guest/blackout_sampler.h"

#include <pthread.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>

namespace godwit {
namespace {

uint64_t ns_between(MonotonicTime begin, MonotonicTime end) {
    return static_cast<uint64_t>(std::max(Duration::zero(), Duration(end - begin)).count());
}

void run_realtime() {
    const sched_param parameters{.sched_priority = 1};
    // Refused without CAP_SYS_NICE: then longest_sample_gap_ns tells what that cost.
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters);
}

absl::StatusOr<UniqueFd> periodic_timer(std::chrono::nanoseconds period) {
    UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!timer.valid()) return errno_status(errno, "timerfd_create");
    timespec interval{.tv_sec = period.count() / 1'000'000'000,
                      .tv_nsec = period.count() % 1'000'000'000};
    const itimerspec spec{.it_interval = interval, .it_value = interval};
    if (::timerfd_settime(timer.get(), 0, &spec, nullptr) != 0)
        return errno_status(errno, "timerfd_settime");
    return timer;
}

}  // namespace

struct BlackoutSampler::State {
    State(BlackoutOptions what, UniqueFd period, Wakeup stop)
        : options(std::move(what)), timer(std::move(period)), stopping(std::move(stop)) {}

    BlackoutOptions options;
    UniqueFd timer;
    Wakeup stopping;
    BlackoutReport report;  // the thread's until it has ended
    MonotonicTime last_sample;
    MonotonicTime last_new;
    MonotonicTime next_trace;
    size_t last_source = 0;  // that showed the last new tick
    bool still = false;      // there was a sample without a new tick since last_new
    std::mutex seen_mutex;
    std::condition_variable seen_changed;
    uint64_t seen_tick = 0;  // report.last_tick for others; guarded by seen_mutex

    void run();
    void sample(MonotonicTime now, size_t source, uint64_t tick);
    void trace(MonotonicTime now);
    void note_stillness(const Stillness& stillness);
};

void BlackoutSampler::State::sample(MonotonicTime now, size_t source, uint64_t tick) {
    ++report.samples;
    report.longest_sample_gap_ns =
        std::max(report.longest_sample_gap_ns, ns_between(last_sample, now));
    last_sample = now;
    report.last_time = now;
    // Before the first tick there is no guest that could stand still.
    const bool seen = report.last_tick != 0;
    const Stillness stillness{last_new, now, report.last_tick};
    if (seen) note_stillness(stillness);
    if (tick <= report.last_tick) {
        still = seen;
        return;
    }
    if (still && report.stalls.size() < BlackoutReport::kMaxStalls)
        report.stalls.push_back(stillness);
    still = false;
    if (seen && source != last_source && !report.handover) report.handover = stillness;
    if (!seen) {
        report.first_tick = tick;
        report.first_time = now;
    }
    report.last_tick = tick;
    ++report.new_ticks;
    last_new = now;
    last_source = source;
    const std::lock_guard lock(seen_mutex);
    seen_tick = tick;
    seen_changed.notify_all();
}

void BlackoutSampler::State::trace(MonotonicTime now) {
    if (options.trace_period.count() == 0 || now < next_trace ||
        report.trace.size() >= BlackoutReport::kMaxTrace)
        return;
    report.trace.push_back({now, report.last_tick});
    next_trace = now + options.trace_period;
}

void BlackoutSampler::State::note_stillness(const Stillness& stillness) {
    const uint64_t length_ns = ns_between(stillness.begin, stillness.end);
    if (length_ns <= report.longest_ns) return;
    report.longest_ns = length_ns;
    report.longest = stillness;
}

void BlackoutSampler::State::run() {
    set_thread_name("blackout");
    if (options.realtime) run_realtime();
    std::vector<std::shared_ptr<TickSource>> sources = options.more;
    for (const std::string& path : {options.source_path, options.destination_path})
        if (!path.empty()) sources.push_back(std::make_shared<FileTicks>(path));
    const auto sample_all = [&] {
        const MonotonicTime now = Clock::system().now();
        // The destination first: a copy of the mailbox is then never newer than what the source
        // shows, however long a read takes.
        size_t at = last_source;
        uint64_t tick = 0;
        for (size_t i = sources.size(); i-- > 0;) {
            const uint64_t shown = sources[i]->read_tick(now);
            if (shown == 0 || shown < tick) continue;
            at = i;
            tick = shown;
        }
        sample(now, at, tick);
        trace(now);
    };
    last_sample = Clock::system().now();
    do {
        uint64_t expirations = 0;
        [[maybe_unused]] const ssize_t got =
            ::read(timer.get(), &expirations, sizeof expirations);  // non-blocking
        sample_all();
    } while (wait_readable(timer.get(), stopping.fd(), std::nullopt).ok());
    sample_all();
    if (still && report.stalls.size() < BlackoutReport::kMaxStalls)
        report.stalls.push_back({last_new, last_sample, report.last_tick});
}

BlackoutSampler::BlackoutSampler(std::unique_ptr<State> state)
    : state_(std::move(state)), thread_([raw = state_.get()] { raw->run(); }) {}

BlackoutSampler::BlackoutSampler(BlackoutSampler&&) noexcept = default;
BlackoutSampler& BlackoutSampler::operator=(BlackoutSampler&&) noexcept = default;

BlackoutSampler::~BlackoutSampler() {
    if (thread_.joinable()) stop();
}

absl::StatusOr<BlackoutSampler> BlackoutSampler::start(BlackoutOptions options) {
    GODWIT_ASSIGN_OR_RETURN(UniqueFd timer, periodic_timer(options.period));
    GODWIT_ASSIGN_OR_RETURN(Wakeup stopping, Wakeup::create());
    auto state = std::make_unique<State>(std::move(options), std::move(timer), std::move(stopping));
    return BlackoutSampler(std::move(state));
}

bool BlackoutSampler::wait_for_tick(uint64_t tick, Duration limit) const {
    std::unique_lock lock(state_->seen_mutex);
    return state_->seen_changed.wait_for(lock, limit, [&] { return state_->seen_tick >= tick; });
}

BlackoutReport BlackoutSampler::stop() {
    state_->stopping.notify();
    thread_.join();
    return state_->report;
}

}  // namespace godwit
