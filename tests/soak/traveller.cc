#include "tests/soak/traveller.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench/guest/mailbox_reader.h"
#include "bench/lab/engine.h"

namespace godwit {
namespace {

// What takes longer hangs: the slowest bandwidth takes a guest's memory in half a minute.
constexpr Duration kTripLimit = std::chrono::minutes(4);
constexpr Duration kCommandLimit = std::chrono::seconds(60);
// Of a guest, to go on after a trip; it shares two CPUs with two others.
constexpr Duration kTestimonyLimit = std::chrono::seconds(60);
constexpr Duration kAskAgain = std::chrono::milliseconds(20);
constexpr uint64_t kTurns = 10;
constexpr uint64_t kPages = 1000;

}  // namespace

absl::Status Traveller::finding(const std::string& what) const {
    return absl::DataLossError(fmt::format(
        "{}, trip {} (godwit migrate {} --id {} {}{}): {}", options_.name, trips_, options_.name,
        migration_id(), absl::StrJoin(trip_.flags, " "),
        absl::StrJoin(trip_.meddling, "",
                      [](std::string* text, const Meddling& one) {
                          *text += fmt::format("; after {:.0f} ms {} {}", to_ms(one.after),
                                               one.command, absl::StrJoin(one.flags, " "));
                      }),
        what));
}

std::string Traveller::migration_id() const { return fmt::format("{}-{}", options_.name, trips_); }

absl::StatusOr<std::string> Traveller::write_vm_file() const {
    const GuestConfig& guest = options_.guest;
    std::string path = fmt::format("{}/{}.yaml", options_.agents->directory(at_), options_.name);
    std::ofstream file(path);
    file << fmt::format(
        "name: {}\nmemory: {}\nmemory_backing: {}\nvcpus: {}\naccel: {}\nkernel: {}\ncpu: \"{}\"\n"
        "append: \"{} vcpus={} seed={}\"\n",
        options_.name, guest.memory, guest.backing, options_.vcpus, guest.kvm ? "kvm" : "tcg",
        guest.kernel, guest.cpu, guest.append, options_.vcpus, guest.seed);
    if (!guest.firmware.empty()) file << fmt::format("firmware: {}\n", guest.firmware);
    file << options_.more;
    file.close();
    if (!file) return absl::UnavailableError(fmt::format("Cannot write {}", path));
    return path;
}

absl::Status Traveller::start() {
    GODWIT_ASSIGN_OR_RETURN(const std::string file, write_vm_file());
    GODWIT_ASSIGN_OR_RETURN(const CommandOutcome started,
                            options_.agents->run(at_, {"vm", "start", file}, kCommandLimit));
    if (started.exit_code != 0)
        return absl::AbortedError(fmt::format("{} does not start: {}", options_.name, started.err));
    GODWIT_ASSIGN_OR_RETURN(
        const MailboxReader mailbox,
        MailboxReader::open(options_.agents->ram_file(at_, options_.guest.backing, options_.name)));
    GODWIT_RETURN_IF_ERROR(
        annotate(wait_until_running(mailbox, options_.cancel_fd), options_.name));
    GODWIT_ASSIGN_OR_RETURN(before_, testimony());
    return absl::OkStatus();
}

absl::Status Traveller::set_out() {
    trip_ = itinerary_.next();
    ++trips_;
    std::vector<std::string> words = {
        "migrate", options_.name,  "--to",     options_.agents->address(1 - at_),
        "--id",    migration_id(), "--verify", "--json"};
    words.insert(words.end(), trip_.flags.begin(), trip_.flags.end());
    GODWIT_ASSIGN_OR_RETURN(before_, testimony());
    GODWIT_ASSIGN_OR_RETURN(Child begun, options_.agents->begin(at_, words));
    move_.emplace(std::move(begun));
    const MonotonicTime now = Clock::system().now();
    deadline_ = now + kTripLimit;
    meddled_ = 0;
    if (!trip_.meddling.empty()) meddle_at_ = now + trip_.meddling.front().after;
    stage_ = Stage::kMoving;
    return absl::OkStatus();
}

int Traveller::fd() const {
    if (stage_ != Stage::kMoving) return -1;
    return meddler_ ? meddler_->pidfd() : move_->pidfd();
}

MonotonicTime Traveller::wake_at() const {
    if (stage_ == Stage::kHome) return MonotonicTime::max();
    if (stage_ == Stage::kTestifying) return Clock::system().now() + kAskAgain;
    const bool meddles = !meddler_ && meddled_ < trip_.meddling.size();
    return meddles ? std::min(deadline_, meddle_at_) : deadline_;
}

absl::Status Traveller::step() {
    if (stage_ == Stage::kHome) return absl::OkStatus();
    if (stage_ == Stage::kTestifying) return testify();
    GODWIT_RETURN_IF_ERROR(meddle());
    if (meddler_) return absl::OkStatus();  // the trip is not over before it has been told so
    const auto ended = move_->wait(Clock::system().now(), -1);
    if (ended.ok()) return arrive(*ended);
    if (Clock::system().now() >= deadline_) return finding("it does not end");
    return absl::OkStatus();
}

// What a meddler hears depends on the moment: too late, or too early, is no error.
absl::Status Traveller::meddle() {
    if (meddler_) {
        if (!meddler_->wait(Clock::system().now(), -1).ok()) {
            if (Clock::system().now() >= deadline_) return finding("meddling does not end");
            return absl::OkStatus();
        }
        meddler_.reset();
        if (++meddled_ < trip_.meddling.size())
            meddle_at_ = Clock::system().now() + trip_.meddling[meddled_].after;
    }
    if (meddled_ == trip_.meddling.size() || Clock::system().now() < meddle_at_)
        return absl::OkStatus();
    const Meddling& now = trip_.meddling[meddled_];
    std::vector<std::string> words = {now.command, migration_id()};
    words.insert(words.end(), now.flags.begin(), now.flags.end());
    GODWIT_ASSIGN_OR_RETURN(Child begun, options_.agents->begin(at_, words));
    meddler_.emplace(std::move(begun));
    return absl::OkStatus();
}

absl::Status Traveller::arrive(int exit_code) {
    report_ = move_->out();
    const std::string said = move_->err();
    move_.reset();
    const nlohmann::json report = nlohmann::json::parse(report_, nullptr, false);
    if (!report.is_object()) return finding("no report; stderr: " + said);
    const std::string outcome = report.value("outcome", "");
    const std::string guest_at = report.value("guest_at", "");
    const bool at_source = guest_at == "source" && report.value("retry_safe", false);
    TripEnd end{};
    if (outcome == "done" && exit_code == 0 && guest_at == "destination") {
        end = TripEnd::kMoved;
        at_ = 1 - at_;
    } else if (outcome == "cancelled" && exit_code == 5 && at_source && trip_.is_cancelled()) {
        end = TripEnd::kCancelled;
    } else if (outcome == "failed" && exit_code == 1 && at_source && trip_.may_fail &&
               report.value("reason", "").find("converge") != std::string::npos) {
        end = TripEnd::kDidNotConverge;
    } else {
        return finding(fmt::format("ended with {}: {}", exit_code, said));
    }
    // What was moved was compared; of the others not all came to that.
    const nlohmann::json verify = report.value("verify", nlohmann::json::object());
    if (verify.value("mismatches", end == TripEnd::kMoved ? 1 : 0) != 0)
        return finding("RAM differs");
    ++ends_[end];
    ++strategies_[trip_.strategy()];
    GODWIT_ASSIGN_OR_RETURN(const Testimony now, testimony());
    if (now.ticks < before_.ticks || now.checked < before_.checked)
        return finding("the guest has gone back in time");
    checked_ += now.checked - before_.checked;
    before_ = now;
    deadline_ = Clock::system().now() + kTestimonyLimit;
    stage_ = Stage::kTestifying;
    return absl::OkStatus();
}

absl::StatusOr<Traveller::Testimony> Traveller::testimony() const {
    const std::string ram = options_.agents->ram_file(at_, options_.guest.backing, options_.name);
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, MailboxReader::open(ram));
    GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
    Testimony said;
    uint64_t errors = mailbox.disk.errors;
    for (uint64_t i = 0; i < std::min<uint64_t>(mailbox.vcpu_count, kMaxVcpus); ++i) {
        said.ticks += mailbox.vcpus[i].tick;
        said.checked += mailbox.vcpus[i].checked;
        errors += mailbox.vcpus[i].errors;
    }
    if (errors > 0 || mailbox.state != static_cast<uint64_t>(GuestState::kRunning))
        return finding(fmt::format("the guest has found {} errors (disk: {}); it is in state {}",
                                   errors, mailbox.disk.errors, mailbox.state));
    return said;
}

absl::Status Traveller::testify() {
    GODWIT_ASSIGN_OR_RETURN(const Testimony said, testimony());
    const std::string other =
        options_.agents->ram_file(1 - at_, options_.guest.backing, options_.name);
    const bool goes_on =
        said.ticks >= before_.ticks + kTurns && said.checked >= before_.checked + kPages;
    if (!goes_on || !other.empty()) {
        if (Clock::system().now() < deadline_) return absl::OkStatus();
        return finding(goes_on ? "left behind: " + other : "the guest does not go on");
    }
    checked_ += said.checked - before_.checked;
    stage_ = Stage::kHome;
    return absl::OkStatus();
}

}  // namespace godwit
