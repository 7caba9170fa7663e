#include "tests/fault/drain_lab.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/base/wait.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr Duration kDrainLimit = std::chrono::seconds(60);
constexpr Duration kGlance = std::chrono::milliseconds(2);
// A whole sweep of the guest, and the writes that are checked meanwhile.
constexpr uint64_t kSweep = 2'700;
// engine/postcopy/missing_pages.h.
constexpr size_t kMissingWordsAt = 16384;

}  // namespace

// --- the witness ----------------------------------------------------------------------------

OneGuestWitness::OneGuestWitness(TestAgent& source, const TestAgent& destination)
    : OneGuestWitness(source, [&destination] { return destination.ram_files_on_disk(); }) {}

OneGuestWitness::OneGuestWitness(TestAgent& source, Files at_destination)
    : source_(source.ram_file(kVm)), at_destination_(std::move(at_destination)) {
    thread_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
}

OneGuestWitness::~OneGuestWitness() = default;

void OneGuestWitness::watch(const std::stop_token& stop) {
    std::optional<GuestWatch> there;
    uint64_t here_before = source_.ticks();
    uint64_t there_before = 0;
    while (!stop.stop_requested()) {
        wait_readable(-1, -1, Clock::system().now() + kGlance).IgnoreError();
        if (!there) {
            for (const std::string& file : at_destination_()) there.emplace(file);
            continue;
        }
        // The destination first: what runs here in between ran before it.
        const uint64_t there_now = there->ticks();
        const uint64_t here_now = source_.ticks();
        if (ran_there_ && here_now != here_before) ran_here_after_ = true;
        // The first sight of the mailbox is what the guest had counted at the source.
        if (there_before != 0 && there_now != 0 && there_now > there_before && there_now > here_now)
            ran_there_ = true;
        if (there_now != 0) there_before = there_now;
        here_before = here_now;
    }
}

void OneGuestWitness::expect_one() {
    if (thread_.joinable()) {
        thread_.request_stop();
        thread_.join();
    }
    EXPECT_FALSE(ran_here_after_) << "TWO GUESTS: it ran at the source after it had at the "
                                     "destination";
}

// --- what is left ---------------------------------------------------------------------------

std::vector<std::string> kept_files(const TestAgent& agent) {
    std::vector<std::string> kept;
    for (const std::string& file : agent.ram_files_on_disk())
        if (file.find(".kept-") != std::string::npos) kept.push_back(file);
    return kept;
}

bool has_missing_faults(pid_t pid) {
    std::ifstream maps(fmt::format("/proc/{}/smaps", pid));
    for (std::string line; std::getline(maps, line);)
        if (line.rfind("VmFlags:", 0) == 0 && (line + " ").find(" um ") != std::string::npos)
            return true;
    return false;
}

// --- the lab --------------------------------------------------------------------------------

void DrainLab::SetUp() {
    Lab::SetUp();
    if (HasFatalFailure()) return;
    witness.emplace(a, b);
    qemu_of_a_ = a.qemu_pid(kVm);
}

void DrainLab::TearDown() {
    if (witness) witness->expect_one();
    Lab::TearDown();
}

void DrainLab::hold(TestAgent& agent, std::string_view step,
                    const std::vector<std::string>& more_flags) {
    std::vector<std::string> flags = {"--test-hold-at", std::string(step)};
    flags.insert(flags.end(), more_flags.begin(), more_flags.end());
    agent.restart_with(std::move(flags));
}

BackgroundCommand DrainLab::begin_postcopy(const std::vector<std::string>& flags) {
    std::vector<std::string> words = {"--strategy", "postcopy", "--bandwidth", kBandwidth};
    words.insert(words.end(), flags.begin(), flags.end());
    return begin_migration(words);
}

uint64_t DrainLab::missing_at_b() const {
    std::ifstream file(fmt::format("{}/migrations/{}/missing", b.state_dir(), kId),
                       std::ios::binary);
    if (!file.seekg(kMissingWordsAt)) return 0;
    const std::string words{std::istreambuf_iterator<char>(file), {}};
    uint64_t count = 0;
    for (size_t at = 0; at + sizeof(uint64_t) <= words.size(); at += sizeof(uint64_t)) {
        uint64_t word = 0;
        std::memcpy(&word, words.data() + at, sizeof word);
        count += static_cast<uint64_t>(std::popcount(word));
    }
    return count;
}

bool DrainLab::journal_says(std::string_view phase) const {
    std::ifstream file(fmt::format("{}/migrations/{}/journal.json", a.state_dir(), kId));
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return text.find(phase) != std::string::npos;
}

bool DrainLab::await_drained(double part) {
    uint64_t most = 0;
    uint64_t now = 0;
    EXPECT_TRUE(eventually(kDrainLimit,
                           [&] {
                               now = missing_at_b();
                               most = std::max(most, now);
                               return witness->ran_at_destination() && most > 0 &&
                                      static_cast<double>(now) <=
                                          (1 - part) * static_cast<double>(most);
                           }))
        << now << " of " << most << " pages are missing still; " << a.log();
    return now > 0;
}

nlohmann::json DrainLab::report() { return json_of(a.cli({"report", kId, "--json"})); }

void DrainLab::expect_lost(BackgroundCommand& command) {
    ASSERT_TRUE(command.wait(std::chrono::seconds(30)));
    EXPECT_EQ(command.result().exit_code, 4) << command.result().err;
}

void DrainLab::expect_drained(const nlohmann::json& report) {
    ASSERT_TRUE(report.is_object());
    EXPECT_EQ(report["outcome"], "done") << report["reason"];
    EXPECT_EQ(report["guest_at"], "destination");
    EXPECT_EQ(report["retry_safe"], false);
    EXPECT_EQ(report["postcopy"]["used"], true);
    witness->expect_one();
    EXPECT_TRUE(kept_files(a).empty()) << ::testing::PrintToString(kept_files(a));
    // One whose agent was restarted is reaped by whoever reaps orphans here.
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] { return ::kill(qemu_of_a_, 0) != 0; }))
        << "the source's QEMU is still there";
    EXPECT_EQ(missing_at_b(), 0U);
    // All that it has: a page that is wrong is found by the guest itself.
    expect_alive_and_well(b, kVm, kSweep);
    EXPECT_FALSE(has_missing_faults(b.qemu_pid(kVm))) << "faults are not the kernel's again";
    expect_only_at(b, a);
    EXPECT_TRUE(a.ram_files_on_disk().empty());
    EXPECT_EQ(b.ram_files_on_disk().size(), 1U);
}

void DrainLab::expect_drained_in_the_end() {
    nlohmann::json last;
    ASSERT_TRUE(eventually(kDrainLimit, [&] {
        last = report();
        return last.is_object() && last.value("outcome", "running") != "running" &&
               last.value("outcome", "running") != "in-doubt";
    })) << last.dump(2);
    expect_drained(last);
}

void DrainLab::expect_drained_by(BackgroundCommand& command) {
    ASSERT_TRUE(command.wait(kDrainLimit))
        << "the migration does not end: " << command.result().err;
    EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
    expect_drained(json_of(command.result()));
}

void DrainLab::expect_back_at_a() {
    EXPECT_FALSE(witness->ran_at_destination());
    expect_only_at(a, b);
    EXPECT_TRUE(kept_files(a).empty()) << ::testing::PrintToString(kept_files(a));
    EXPECT_EQ(a.ram_files_on_disk().size(), 1U);
    EXPECT_TRUE(b.ram_files_on_disk().empty());
    expect_alive_and_well(a, kVm, 1000);
}

}  // namespace godwit::testing
