#include "tests/soak/soak.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "bench/lab/cpu_time.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 2> kAgentNames = {"a", "b"};
// Trips of all guests between two looks at the agents.
constexpr uint64_t kTripsToARest = 9;
// What an agent keeps for a little while: guards, connections, threads of libraries.
constexpr Duration kSettleLimit = std::chrono::seconds(30);
constexpr Duration kSettledFor = std::chrono::seconds(1);
constexpr Duration kLookAgain = std::chrono::milliseconds(100);

uint64_t count_files(const std::string& directory) {
    std::error_code error;
    const fs::directory_iterator files(directory, error);
    return error ? 0 : static_cast<uint64_t>(std::distance(begin(files), end(files)));
}

uint64_t sum_of(const std::map<TripEnd, uint64_t>& ends, TripEnd end) {
    const auto found = ends.find(end);
    return found == ends.end() ? 0 : found->second;
}

std::string minutes_of(Duration duration) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
    return fmt::format("{} min {} s", seconds / 60, seconds % 60);
}

}  // namespace

Soak::Soak(SoakOptions options, Lab& lab)
    : options_(std::move(options)),
      lab_(lab),
      agents_(lab.agents({})),
      interrupt_(lab.series().cancel_fd) {}

// One with a disk and two vCPUs, one in small pages, one without KVM: every kind that there is.
void Soak::invite() {
    const auto invite_one = [this](const char* name, const char* backing, const char* append,
                                   bool kvm, int vcpus, const std::string& more) {
        GuestConfig guest = lab_.equip({.memory = Bytes{256} << 20, .backing = backing}, kvm);
        guest.append = append;
        guest.seed = options_.seed % 1'000'000 + guests_.size() + 1;
        guests_.emplace_back(Traveller::Options{.name = name,
                                                .guest = std::move(guest),
                                                .vcpus = vcpus,
                                                .more = more,
                                                .seed = options_.seed + guests_.size(),
                                                .agents = agents_.get(),
                                                .cancel_fd = interrupt_});
    };
    const bool kvm = lab_.has_kvm();
    invite_one("plain", "thp", "ws=64M rate=5000 pattern=random", kvm, 1, "");
    invite_one("disk", "4k", "ws=24M rate=3000 pattern=hot:90/10 disk=on dma=8M diskrate=500", kvm,
               2, fmt::format("disks: [{{path: {}/disk.raw}}]\n", agents_->directory(0)));
    invite_one("slow", "thp", "ws=16M rate=2000 pattern=random", false, 1, "");
}

absl::Status Soak::boot() {
    GODWIT_RETURN_IF_ERROR(agents_->start());
    invite();
    GODWIT_ASSIGN_OR_RETURN(Child disk,
                            Child::start({lab_.bin_dir() + "/guest-disk",
                                          agents_->directory(0) + "/disk.raw", "64MiB"}));
    GODWIT_ASSIGN_OR_RETURN(const int made,
                            disk.wait(Clock::system().now() + std::chrono::minutes(1), interrupt_));
    if (made != 0) return absl::AbortedError("Cannot make a disk: " + disk.err());
    for (Traveller& guest : guests_) GODWIT_RETURN_IF_ERROR(guest.start());
    return absl::OkStatus();
}

uint64_t Soak::trips() const {
    uint64_t sum = 0;
    for (const Traveller& guest : guests_) sum += guest.trips();
    return sum;
}

bool Soak::is_over() const {
    return Clock::system().now() >= began_ + options_.length ||
           (options_.moves > 0 && trips() >= options_.moves);
}

bool Soak::all_home() const {
    return std::all_of(guests_.begin(), guests_.end(),
                       [](const Traveller& guest) { return guest.is_home(); });
}

absl::Status Soak::wait() const {
    std::vector<pollfd> fds{{.fd = interrupt_, .events = POLLIN, .revents = 0}};
    MonotonicTime until = MonotonicTime::max();
    for (const Traveller& guest : guests_) {
        fds.push_back({.fd = guest.fd(), .events = POLLIN, .revents = 0});
        until = std::min(until, guest.wake_at());
    }
    // Rounded up: a moment that has not come would be asked for again and again.
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        std::clamp<Duration>(until - Clock::system().now(), Duration::zero(), kSettleLimit));
    if (::poll(fds.data(), fds.size(), static_cast<int>(left.count())) < 0 && errno != EINTR)
        return errno_status(errno, "poll");
    if (fds.front().revents != 0) return absl::CancelledError("interrupted");
    return absl::OkStatus();
}

absl::StatusOr<Vitals> Soak::settle() const {
    const MonotonicTime deadline = Clock::system().now() + kSettleLimit;
    MonotonicTime since = Clock::system().now();
    Vitals last;
    while (true) {
        Vitals now;
        uint64_t processes = 0;
        uint64_t ram_files = 0;
        for (const int which : {0, 1}) {
            processes += children_of(agents_->pid(which)).size();
            for (const char* backing : {"thp", "4k"})
                ram_files += count_files(agents_->ram_directory(which, backing));
            GODWIT_ASSIGN_OR_RETURN(const Vitals one, vitals_of(agents_->pid(which)));
            now += one;
        }
        const bool clean = processes == guests_.size() && ram_files == guests_.size();
        const bool same = now.descriptors == last.descriptors && now.threads == last.threads;
        last = now;
        if (!clean || !same) since = Clock::system().now();
        const bool late = Clock::system().now() >= deadline;
        // Late and never quite still: what they hold is judged like the rest.
        if (clean && (late || Clock::system().now() >= since + kSettledFor)) return now;
        if (late)
            return absl::DataLossError(
                fmt::format("the agents have {} processes and {} RAM files for {} guests",
                            processes, ram_files, guests_.size()));
        if (wait_readable(interrupt_, -1, Clock::system().now() + kLookAgain).ok())
            return absl::CancelledError("interrupted");
    }
}

absl::Status Soak::rest() {
    GODWIT_ASSIGN_OR_RETURN(const Vitals now, settle());
    rests_.push_back(now);
    const std::string line =
        fmt::format("{:>6} trips; the agents: {}, {} mappings, {} descriptors, {} threads", trips(),
                    format_bytes(now.memory), now.mappings, now.descriptors, now.threads);
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
    trips_at_rest_ = trips();
    return absl::OkStatus();
}

absl::Status Soak::travel() {
    while (true) {
        for (Traveller& guest : guests_) GODWIT_RETURN_IF_ERROR(guest.step());
        const bool rests = is_over() || trips() >= trips_at_rest_ + kTripsToARest;
        if (rests && all_home()) {
            GODWIT_RETURN_IF_ERROR(rest());
            if (is_over()) return absl::OkStatus();
        } else if (!rests) {
            for (Traveller& guest : guests_)
                if (guest.is_home()) GODWIT_RETURN_IF_ERROR(guest.set_out());
        }
        if (!all_home()) GODWIT_RETURN_IF_ERROR(wait());
    }
}

absl::Status Soak::check_flat() const {
    const auto flat = judge(rests_, {});
    if (!flat.ok() || flat->leaks.empty()) return absl::OkStatus();  // too short: summary() says so
    return absl::DataLossError("the agents leak: " + absl::StrJoin(flat->leaks, "; "));
}

absl::Status Soak::run() {
    began_ = Clock::system().now();
    GODWIT_RETURN_IF_ERROR(boot());
    GODWIT_RETURN_IF_ERROR(travel());
    return check_flat();
}

std::string Soak::summary() const {
    uint64_t moved = 0, cancelled = 0, gave_up = 0, checked = 0;
    std::map<std::string, uint64_t> strategies;
    for (const Traveller& guest : guests_) {
        moved += sum_of(guest.ends(), TripEnd::kMoved);
        cancelled += sum_of(guest.ends(), TripEnd::kCancelled);
        gave_up += sum_of(guest.ends(), TripEnd::kDidNotConverge);
        checked += guest.checked_pages();
        for (const auto& [strategy, count] : guest.strategies()) strategies[strategy] += count;
    }
    std::string text =
        fmt::format("soak of {}, seed {}: {} trips: {} moved, {} cancelled, {} did not converge;",
                    minutes_of(Clock::system().now() - began_), options_.seed,
                    moved + cancelled + gave_up, moved, cancelled, gave_up);
    for (const auto& [strategy, count] : strategies)
        text += fmt::format(" {} {},", count, strategy);
    text += fmt::format(" guests checked {} pages", checked);
    const auto flat = judge(rests_, {});
    if (!flat.ok()) return text + "; " + std::string(flat.status().message());
    const Vitals& before = flat->before;
    const Vitals& after = flat->after;
    return text + fmt::format(
                      "; the agents after the warm-up and at the end: {} and {}, {} and {} "
                      "mappings, {} and {} descriptors, {} and {} threads",
                      format_bytes(before.memory), format_bytes(after.memory), before.mappings,
                      after.mappings, before.descriptors, after.descriptors, before.threads,
                      after.threads);
}

absl::Status Soak::keep() const {
    if (options_.keep.empty()) return absl::OkStatus();
    std::error_code error;
    fs::create_directories(options_.keep, error);
    const auto write = [this](const std::string& name, const std::string& text) {
        std::ofstream file(fmt::format("{}/{}", options_.keep, name));
        file << text;
        file.close();
        if (file) return absl::OkStatus();
        return absl::UnavailableError(fmt::format("Cannot write {}/{}", options_.keep, name));
    };
    for (const int which : {0, 1})
        GODWIT_RETURN_IF_ERROR(
            write(fmt::format("agent-{}.log", kAgentNames.at(which)), agents_->log(which)));
    for (const Traveller& guest : guests_)
        GODWIT_RETURN_IF_ERROR(write(guest.name() + ".json", guest.last_report()));
    return absl::OkStatus();
}

}  // namespace godwit
