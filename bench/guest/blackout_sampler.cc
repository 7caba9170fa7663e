#include "bench/guest/blackout_sampler.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <mutex>

#include "bench/guest/mailbox_layout.h"
#include "engine/base/ram_block.h"

namespace godwit {
namespace {

// How often a RAM file that shows nothing new is looked up by name again: it may have been made, or
// removed and made anew, since.
constexpr std::chrono::milliseconds kLookAgainAfter{5};

class TickFile {
  public:
    explicit TickFile(std::string path) : path_(std::move(path)) {}

    // The largest tick of all vCPUs; 0 while the file cannot be read.
    uint64_t read(MonotonicTime now) {
        if (path_.empty()) return 0;
        if (now >= look_again_) look(now);
        std::array<MailboxVcpu, kMaxVcpus> vcpus;
        constexpr Bytes kOffset = kMailboxAddress + offsetof(Mailbox, vcpus);
        if (!file_.valid() || !read_fully(file_.get(), vcpus.data(), sizeof vcpus, kOffset).ok())
            return 0;
        uint64_t tick = 0;
        for (const MailboxVcpu& vcpu : vcpus) tick = std::max(tick, vcpu.tick);
        if (tick > largest_) look_again_ = now + kLookAgainAfter;
        largest_ = std::max(largest_, tick);
        return tick;
    }

  private:
    void look(MonotonicTime now) {
        look_again_ = now + kLookAgainAfter;
        struct stat info {};
        if (::stat(path_.c_str(), &info) != 0) return;
        if (file_.valid() && info.st_ino == inode_ && info.st_dev == device_) return;
        file_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
        inode_ = info.st_ino;
        device_ = info.st_dev;
    }

    std::string path_;
    UniqueFd file_;
    ino_t inode_ = 0;
    dev_t device_ = 0;
    uint64_t largest_ = 0;
    MonotonicTime look_again_{};
};

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
    std::mutex seen_mutex;
    std::condition_variable seen;
    uint64_t seen_tick = 0;  // report.last_tick for others; guarded by seen_mutex

    void run();
    void sample(MonotonicTime now, uint64_t tick);
};

void BlackoutSampler::State::sample(MonotonicTime now, uint64_t tick) {
    ++report.samples;
    report.longest_sample_gap_ns =
        std::max(report.longest_sample_gap_ns, ns_between(last_sample, now));
    last_sample = now;
    // Before the first tick there is no guest that could stand still.
    const bool any = report.last_tick != 0;
    if (any) report.longest_ns = std::max(report.longest_ns, ns_between(last_new, now));
    if (tick <= report.last_tick) return;
    report.last_tick = tick;
    ++report.new_ticks;
    last_new = now;
    const std::lock_guard lock(seen_mutex);
    seen_tick = tick;
    seen.notify_all();
}

void BlackoutSampler::State::run() {
    set_thread_name("blackout");
    if (options.realtime) run_realtime();
    TickFile source(options.source_path);
    TickFile destination(options.destination_path);
    const auto sample_both = [&] {
        const MonotonicTime now = Clock::system().now();
        sample(now, std::max(source.read(now), destination.read(now)));
    };
    last_sample = Clock::system().now();
    do {
        uint64_t expirations = 0;
        [[maybe_unused]] const ssize_t got =
            ::read(timer.get(), &expirations, sizeof expirations);  // non-blocking
        sample_both();
    } while (wait_readable(timer.get(), stopping.fd(), std::nullopt).ok());
    sample_both();
}

BlackoutSampler::BlackoutSampler(std::unique_ptr<State> state)
    : state_(std::move(state)), thread_([raw = state_.get()] { raw->run(); }) {}

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
    return state_->seen.wait_for(lock, limit, [&] { return state_->seen_tick >= tick; });
}

BlackoutReport BlackoutSampler::stop() {
    state_->stopping.notify();
    thread_.join();
    return state_->report;
}

}  // namespace godwit
