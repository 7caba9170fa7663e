#include "tests/fault/lab.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/base/wait.h"
#include "engine/guest/qemu/qmp_client.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr Duration kLimit = std::chrono::seconds(60);
constexpr Duration kStill = std::chrono::milliseconds(300);
constexpr uint64_t kScratchBytes = 1 << 20;

// Of a process that has just gone nothing can be read, which an iterator would throw.
std::string slurp(const std::string& path) {
    const std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::string held_file(const TestAgent& agent) { return agent.state_dir() + "/held"; }

void expect_says(const nlohmann::json& report, const Ending& ending, const std::string& guest_at) {
    ASSERT_TRUE(report.is_object());
    EXPECT_EQ(report["outcome"], ending.outcome) << report["reason"];
    EXPECT_EQ(report["guest_at"], guest_at) << report["reason"];
    EXPECT_EQ(report["retry_safe"], guest_at == "source");
    EXPECT_EQ(report["reason"] == "", ending.outcome == "done" && ending.words.empty())
        << report["reason"];
    for (const std::string& word : ending.words)
        EXPECT_NE(report["reason"].get<std::string>().find(word), std::string::npos)
            << report["reason"];
}

}  // namespace

GuestWatch::GuestWatch(const std::string& ram_file)
    : file_(::open(ram_file.c_str(), O_RDONLY | O_CLOEXEC)) {
    path_ = fmt::format("/proc/self/fd/{}", file_.get());
    EXPECT_TRUE(file_.valid()) << ram_file;
}

uint64_t GuestWatch::ticks() const {
    const auto reader = MailboxReader::open(path_);
    if (!reader.ok()) return 0;
    const auto mailbox = reader->read();
    uint64_t ticks = 0;
    if (mailbox.ok())
        for (uint64_t i = 0; i < mailbox->vcpu_count && i < kMaxVcpus; ++i)
            ticks += mailbox->vcpus[i].tick;
    return ticks;
}

std::optional<Duration> GuestWatch::until_it_runs(Duration limit,
                                                  const std::function<void()>& after) const {
    const uint64_t before = ticks();
    const MonotonicTime begin = Clock::system().now();
    if (after) after();
    if (!eventually(limit, [&] { return ticks() != before; })) return std::nullopt;
    return Clock::system().now() - begin;
}

bool GuestWatch::stands_still() const { return !until_it_runs(kStill); }

AgentOptions hold_at(std::string_view step, const std::vector<std::string>& more_flags) {
    AgentOptions options{.flags = {"--test-hold-at", std::string(step)}};
    options.flags.insert(options.flags.end(), more_flags.begin(), more_flags.end());
    return options;
}

bool is_held(const TestAgent& agent) { return fs::exists(held_file(agent)); }

void await_held(TestAgent& agent) {
    ASSERT_TRUE(eventually(kLimit, [&] { return is_held(agent); })) << agent.log();
}

void let_go(const TestAgent& agent) {
    std::error_code ignored;
    fs::remove(held_file(agent), ignored);
}

Verdict word_at(const TestAgent& agent) {
    const std::string path = fmt::format("{}/migrations/{}/word", agent.state_dir(), kId);
    if (!fs::exists(path)) return Verdict::kOpen;
    const auto word = DecisionWord::open(path);
    return word.ok() ? word->read() : Verdict::kOpen;
}

nlohmann::json ask_qemu(const TestAgent& agent, const std::string& command,
                        const nlohmann::json& arguments) {
    auto client = QmpClient::connect(fmt::format("{}/vms/{}/guard.sock", agent.state_dir(), kVm),
                                     Clock::system().now() + std::chrono::seconds(10),
                                     [](const QmpEvent&, MonotonicTime) {});
    if (!client.ok()) {
        ADD_FAILURE() << client.status();
        return {};
    }
    auto answer = (*client)->execute(command, arguments, std::chrono::seconds(10));
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? *answer : nlohmann::json();
}

// Guards of an agent are told by the word file in their arguments.
std::vector<pid_t> guards_of(const TestAgent& agent) {
    std::vector<pid_t> pids;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
        const std::string words = slurp(entry.path().string() + "/cmdline");
        if (words.find("godwit-guard") != std::string::npos &&
            words.find(agent.state_dir() + "/") != std::string::npos)
            pids.push_back(static_cast<pid_t>(std::stol(entry.path().filename().string())));
    }
    return pids;
}

void kill_process(pid_t pid) {
    ASSERT_GT(pid, 1);
    const UniqueFd gone(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    ASSERT_TRUE(gone.valid());
    ::kill(pid, SIGKILL);
    EXPECT_TRUE(wait_readable(gone.get(), -1, Clock::system().now() + kLimit).ok());
}

void Lab::SetUp() {
    disk = make_guest_disk(a, "8M");
    scratch = a.state_dir() + "/scratch.raw";
    std::ofstream(scratch).close();
    fs::resize_file(scratch, kScratchBytes);
    GuestOptions guest = small_guest(kVm);
    guest.append = guest_words();
    guest.extra = more_of_vm_file() + "disks:\n";
    for (const std::string& path : {disk, scratch})
        guest.extra += fmt::format("  - path: {}\n    format: raw\n    cache: writeback\n", path);
    start_guest(a, guest);
}

void Lab::TearDown() {
    for (const TestAgent* agent : {&a, &b}) {
        agent->signal(SIGCONT);
        let_go(*agent);
    }
}

BackgroundCommand Lab::begin_migration(const std::vector<std::string>& flags) {
    std::vector<std::string> words = {"migrate",          kVm,     "--to", b.address(), "--json",
                                      "--downtime-limit", "500ms", "--id", kId};
    words.insert(words.end(), flags.begin(), flags.end());
    if (std::find(flags.begin(), flags.end(), "--strategy") == flags.end())
        words.insert(words.end(), {"--strategy", "precopy"});
    return a.cli_in_background(words);
}

BackgroundCommand Lab::begin_slow_round() {
    a.restart(hold_at(step::kPrepared));
    BackgroundCommand command = begin_migration({"--bandwidth", "16KiB/s"});
    await_held(a);
    let_go(a);
    EXPECT_TRUE(eventually(kLimit, [&] {
        struct stat file {};
        for (const std::string& path : b.ram_files_on_disk())
            if (::stat(path.c_str(), &file) == 0 && file.st_blocks > 0) return true;
        return false;
    })) << "no page arrives";
    return command;
}

void Lab::await_log(const std::string& words) {
    ASSERT_TRUE(eventually(kLimit, [&] { return a.log().find(words) != std::string::npos; }))
        << a.log();
}

void Lab::await_commit_heard() {
    const std::string journal = fmt::format("{}/migrations/{}/journal.json", b.state_dir(), kId);
    ASSERT_TRUE(eventually(kLimit, [&] {
        const std::string text = slurp(journal);
        for (const char* phase : {"PHASE_CONT", "_RESUMED", "_DRAINING"})
            if (text.find(phase) != std::string::npos) return true;
        return false;
    })) << b.log();
}

void Lab::bring_back(TestAgent& agent) {
    let_go(agent);
    agent.restart_with({});
}

void Lab::expect_end(BackgroundCommand& command, const Ending& ending,
                     const std::string& guest_at) {
    ASSERT_TRUE(command.wait(kLimit)) << "the migration does not end: " << command.result().err;
    const CommandResult result = command.result();
    EXPECT_EQ(result.exit_code, ending.exit_code) << result.err;
    expect_says(json_of(result), ending, guest_at);
}

void Lab::expect_report(const Ending& ending, const std::string& guest_at) {
    CommandResult result;
    ASSERT_TRUE(eventually(kLimit,
                           [&] {
                               result = a.cli({"report", kId, "--json"});
                               const nlohmann::json report = json_of(result);
                               return report.is_object() &&
                                      report.value("outcome", "running") != "running" &&
                                      report.value("outcome", "running") != "in-doubt";
                           }))
        << result.out << result.err;
    EXPECT_EQ(result.exit_code, ending.exit_code) << result.err;
    expect_says(json_of(result), ending, guest_at);
}

void Lab::expect_disk_writable(TestAgent& agent) {
    // By the guest's own device. An image that QEMU has given up would end QEMU here.
    const std::string want(512, static_cast<char>(++pattern_));
    const nlohmann::json said = ask_qemu(
        agent, "human-monitor-command",
        {{"command-line",
          fmt::format(
              "qemu-io -d /machine/peripheral/vdisk1/virtio-backend \"write -P {} 4096 512\"",
              pattern_)}});
    EXPECT_TRUE(slurp(scratch).substr(4096, 512) == want)
        << "a write to the disk was lost: " << said;
}

void Lab::expect_only_at(TestAgent& here, TestAgent& there) {
    const nlohmann::json found = here.vm(kVm);
    ASSERT_TRUE(found.is_object()) << "no VM at " << here.address();
    EXPECT_EQ(found["state"], "running");
    // Memory that came page by page is put together first.
    EXPECT_TRUE(eventually(kLimit, [&] { return here.vm(kVm)["migration_id"] == ""; }));
    expect_alive_and_well(here, kVm, 100);
    const uint64_t reads = testimony(here, kVm).disk_reads;
    EXPECT_TRUE(eventually(kLimit, [&] { return testimony(here, kVm).disk_reads > reads; }))
        << "the guest's disk does not answer";
    expect_nothing_left(there, kVm);
    EXPECT_EQ(here.qemu_pids().size(), 1U);
    for (const TestAgent* agent : {&here, &there})
        EXPECT_TRUE(eventually(kLimit, [&] { return guards_of(*agent).empty(); }));
    expect_disk_writable(here);
    expect_alive_and_well(here, kVm, 100);
}

void Lab::expect_moves(TestAgent& from, TestAgent& to) {
    const CommandResult result = migrate(from, to.address(), kVm);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(json_of(result)["verify"]["mismatches"], 0);
    expect_only_at(to, from);
}

void Lab::expect_at_a_and_moves() {
    expect_only_at(a, b);
    if (HasFatalFailure()) return;
    expect_moves(a, b);
}

std::string step_name(const ::testing::TestParamInfo<std::string_view>& info) {
    std::string name;
    bool upper = true;
    for (const char letter : info.param) {
        if (letter != '-') name += upper ? static_cast<char>(letter - 'a' + 'A') : letter;
        upper = letter == '-';
    }
    return name;
}

}  // namespace godwit::testing
