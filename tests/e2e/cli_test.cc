// The command line: flags, files, exit codes, and what it says when something is wrong.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "transport/frame/frame_header.h"

namespace godwit::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

// Nobody listens on port 1.
const std::vector<std::string> kNoAgent = {program("godwit"), "--agent", "127.0.0.1:1"};

CommandResult godwit(std::vector<std::string> words) {
    words.insert(words.begin(), kNoAgent.begin(), kNoAgent.end());
    return run_command(words);
}

// --- help and usage -------------------------------------------------------------------------

TEST(Cli, EveryCommandHasHelpWithAnExample) {
    const std::vector<std::vector<std::string>> commands = {{},
                                                            {"vm", "start"},
                                                            {"vm", "list"},
                                                            {"vm", "show"},
                                                            {"vm", "log"},
                                                            {"vm", "stop"},
                                                            {"migrate"},
                                                            {"watch"},
                                                            {"cancel"},
                                                            {"report"},
                                                            {"list"},
                                                            {"host"},
                                                            {"vm", "record-dirty"}};
    for (std::vector<std::string> words : commands) {
        words.emplace_back("--help");
        const CommandResult result = godwit(words);
        EXPECT_EQ(result.exit_code, 0) << result.err;
        EXPECT_THAT(result.out, HasSubstr("Example:\n  godwit ")) << words.front();
    }
    const CommandResult version = godwit({"--version"});
    EXPECT_EQ(version.exit_code, 0);
    EXPECT_THAT(version.out, HasSubstr("."));
}

// `godwit WORDS…` on a host whose libvirt can't be loaded.
CommandResult without_libvirt(const std::vector<std::string>& words) {
    std::string library;
    for (const auto& directory : std::filesystem::directory_iterator("/usr/lib"))
        if (const auto found = directory.path() / "libvirt.so.0"; std::filesystem::exists(found))
            library = std::filesystem::canonical(found).string();
    EXPECT_NE(library, "");
    std::vector<std::string> argv = {
        "unshare", "--mount", "sh", "-c", "mount --bind /dev/null \"$0\" && exec \"$@\"", library};
    argv.insert(argv.end(), kNoAgent.begin(), kNoAgent.end());
    argv.insert(argv.end(), words.begin(), words.end());
    return run_command(argv);
}

TEST(Cli, NeedsLibvirtForItsDomainsOnly) {
    EXPECT_EQ(without_libvirt({"--version"}).exit_code, 0);
    const CommandResult check = without_libvirt({"libvirt", "check", "web"});
    EXPECT_NE(check.exit_code, 0);
    EXPECT_THAT(check.err, HasSubstr("libvirt is not installed here (/"));
    EXPECT_THAT(check.err, HasSubstr("install it"));
}

struct WrongFlags {
    const char* name;
    std::vector<std::string> words;
    std::string reason;
};
void PrintTo(const WrongFlags& param, std::ostream* out) { *out << param.name; }

class Usage : public ::testing::TestWithParam<WrongFlags> {};

TEST_P(Usage, ErrorsHaveExitCode2AndTheReason) {
    const CommandResult result = godwit(GetParam().words);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_THAT(result.err, HasSubstr(GetParam().reason));
}

std::vector<std::string> migrate_with(const std::string& flag, const std::string& value) {
    return {"migrate", "vm", "--to", "127.0.0.1:1", flag, value};
}

INSTANTIATE_TEST_SUITE_P(
    Cli, Usage,
    ::testing::Values(
        WrongFlags{"NoCommand", {}, "A subcommand is required"},
        WrongFlags{"UnknownCommand", {"teleport"}, "\"teleport\" is no command"},
        WrongFlags{"UnknownVmCommand", {"vm", "teleport"}, "\"teleport\" is no command"},
        WrongFlags{"UnknownFlag", {"list", "--colour"}, "--colour"},
        WrongFlags{"NoName", {"migrate", "--to", "127.0.0.1:1"}, "NAME"},
        WrongFlags{"NameAndAll", migrate_with("--vms", "web"), "take one of the three"},
        WrongFlags{"VmTwice",
                   {"migrate", "--vms", "web,db,web", "--to", "h:1"},
                   "--vms: web is there twice"},
        WrongFlags{"VmWithoutName",
                   {"migrate", "--vms", "web,", "--to", "h:1"},
                   "--vms: a name is missing"},
        WrongFlags{"ScheduleOfOneVm", migrate_with("--schedule", "serial"), "for several VMs"},
        WrongFlags{
            "Schedule", {"migrate", "--all", "--to", "h:1", "--schedule", "soon"}, "--schedule"},
        WrongFlags{
            "NoneAtATime", {"migrate", "--all", "--to", "h:1", "--parallel", "0"}, "--parallel"},
        WrongFlags{"SeveralAtATimeInSeries",
                   {"migrate", "--all", "--to", "h:1", "--schedule", "serial", "--parallel", "2"},
                   "--parallel: --schedule serial"},
        WrongFlags{"DetachOfSeveral",
                   {"migrate", "--all", "--to", "h:1", "--detach"},
                   "--detach and --id are for one VM"},
        WrongFlags{"RecordWithoutOutput", {"vm", "record-dirty", "vm"}, "--output"},
        WrongFlags{"RecordForNothing",
                   {"vm", "record-dirty", "vm", "-o", "/tmp/no", "--for", "0s"},
                   "--for: 0s is not within"},
        WrongFlags{"NoDestination", {"migrate", "vm"}, "--to"},
        WrongFlags{
            "DestinationThatIsNoAddress", {"migrate", "vm", "--to", "host"}, "--to: \"host\""},
        WrongFlags{"DestinationPort", {"migrate", "vm", "--to", "host:65536"}, "HOST:PORT"},
        WrongFlags{"Strategy", migrate_with("--strategy", "teleport"), "--strategy"},
        WrongFlags{"Tracker", migrate_with("--tracker", "crystal-ball"), "--tracker"},
        WrongFlags{"DowntimeWithoutUnit", migrate_with("--downtime-limit", "50"),
                   "--downtime-limit"},
        WrongFlags{"DowntimeOfNothing", migrate_with("--downtime-limit", "0ms"),
                   "--downtime-limit"},
        WrongFlags{"DowntimeBelowZero", migrate_with("--downtime-limit", "-5ms"),
                   "--downtime-limit"},
        WrongFlags{"Threshold", migrate_with("--threshold", "few"), "--threshold"},
        WrongFlags{"NoRounds", migrate_with("--max-rounds", "0"), "--max-rounds"},
        WrongFlags{"TooManyRounds", migrate_with("--max-rounds", "1001"), "--max-rounds"},
        WrongFlags{"MaxDataOfNothing", migrate_with("--max-data", "0x"), "--max-data"},
        WrongFlags{"MaxDataThatIsNoNumber", migrate_with("--max-data", "nan"), "--max-data"},
        WrongFlags{"OnNoConverge", migrate_with("--on-no-converge", "pray"), "--on-no-converge"},
        WrongFlags{"BandwidthOfNothing", migrate_with("--bandwidth", "0"), "--bandwidth"},
        WrongFlags{"BandwidthThatIsNoRate", migrate_with("--bandwidth", "fast"), "--bandwidth"},
        WrongFlags{"NoStreams", migrate_with("--streams", "0"), "--streams"},
        WrongFlags{"TooManyStreams", migrate_with("--streams", "17"), "--streams"},
        WrongFlags{"StopTimeout", {"vm", "stop", "vm", "--timeout", "soon"}, "--timeout"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Cli, RefusesAnAgentThatIsNoAddress) {
    const CommandResult result = run_command({program("godwit"), "--agent", "nowhere", "list"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("--agent: \"nowhere\" is no address"));
}

TEST(Daemon, RefusesWrongFlagsWithExitCode2AndTheReason) {
    const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
        {{"--listen", "7654"}, "--listen"},
        {{"--listen", "0.0.0.0:0"}, "--insecure"},
        {{"--memory-limit", "much"}, "--memory-limit"},
        {{"--log-level", "loud"}, "--log-level"},
        {{"--guard", "/nonexistent"}, "godwit-guard"},
        {{"--cpus", "all"}, "--cpus: \"all\" is no CPU"},
        {{"--cpus", "0,9999"}, "--cpus: there is no CPU 9999"},
        {{"--nice", "20"}, "--nice"},
        {{"--cpu-latency", "soon"}, "--cpu-latency: \"soon\": use auto, off, or microseconds"},
        {{"--colour"}, "--colour"}};
    for (const auto& [flags, reason] : cases) {
        std::vector<std::string> words = {program("godwitd"), "--state-dir", "/nonexistent/godwit"};
        words.insert(words.end(), flags.begin(), flags.end());
        const CommandResult result = run_command(words);
        EXPECT_EQ(result.exit_code, 2) << reason;
        EXPECT_THAT(result.err, HasSubstr(reason));
    }
}

TEST(Daemon, WithoutAQemuNamesTheOneThatItLookedFor) {
    std::string state = "/tmp/gw-XXXXXX";
    ASSERT_NE(::mkdtemp(state.data()), nullptr);
    const CommandResult result = run_command({program("godwitd"), "--listen", "127.0.0.1:0",
                                              "--state-dir", state, "--qemu", "/no/such/qemu"});
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_THAT(result.err, HasSubstr("/no/such/qemu"));
    std::filesystem::remove_all(state);
}

// --- VM files -------------------------------------------------------------------------------

struct VmFile {
    const char* name;
    std::string text;
    std::string complaint;  // after the file's name
};
void PrintTo(const VmFile& param, std::ostream* out) { *out << param.name; }

class MalformedVmFile : public ::testing::TestWithParam<VmFile> {};

TEST_P(MalformedVmFile, IsRefusedWithFileLineAndField) {
    const std::string path = ::testing::TempDir() + "gw-" + GetParam().name + ".yaml";
    std::ofstream(path) << GetParam().text;
    const CommandResult result = godwit({"vm", "start", path});
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_THAT(result.err, HasSubstr(path + GetParam().complaint));
    std::filesystem::remove(path);
}

INSTANTIATE_TEST_SUITE_P(
    Cli, MalformedVmFile,
    ::testing::Values(
        VmFile{"Misspelt", "name: web\nmemry: 1GiB\n", ":2: memry: unknown key; did you mean"},
        VmFile{"BadSize", "name: web\nmemory: lots\n", ":2: memory: "},
        VmFile{"OddSize", "name: web\n\nmemory: 3M\n", ":3: memory: "},
        VmFile{"BadName", "memory: 1GiB\nname: a/b\n", ":2: name: "},
        VmFile{"NoName", "memory: 1GiB\n", ":1: name: is missing"},
        VmFile{"NoVcpus", "name: web\nmemory: 1GiB\nvcpus: 0\n", ":3: vcpus: "},
        VmFile{"BadAccel", "name: web\nmemory: 1GiB\naccel: fast\n", ":3: accel: "},
        VmFile{"NestedField",
               "name: web\nmemory: 1GiB\ndisks:\n  - path: /a\n    format: raw\n    cash: none\n",
               ":6: disks[0].cash: unknown key"},
        VmFile{"Twice", "name: web\nmemory: 1GiB\nname: web\n", ":3: name: is there twice"},
        VmFile{"NoYaml", "name: [web\n", ":"}, VmFile{"NoMapping", "- web\n", ":1: "},
        VmFile{"Empty", "", ":1: "}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Cli, VmFileThatIsNotThereIsUsage) {
    const CommandResult result = godwit({"vm", "start", "/no/such/file.yaml"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("/no/such/file.yaml"));
}

// --- agents ---------------------------------------------------------------------------------

TEST(Cli, WithoutAnAgentSaysHowToStartOne) {
    const std::vector<std::vector<std::string>> commands = {
        {"list"}, {"watch", "vm"}, {"migrate", "vm", "--to", "h:1"}};
    for (const std::vector<std::string>& words : commands) {
        const CommandResult result = godwit(words);
        EXPECT_EQ(result.exit_code, 3);
        EXPECT_THAT(result.err, HasSubstr("Cannot reach the agent at 127.0.0.1:1"));
        EXPECT_THAT(result.err, HasSubstr("godwitd --listen 127.0.0.1:1"));
    }
    const CommandResult result = godwit({"list", "--json"});
    const nlohmann::json error = json_of(result);
    ASSERT_TRUE(error.is_object());
    EXPECT_EQ(error["reason"], "AGENT_UNREACHABLE");
    EXPECT_EQ(error["retry_safe"], true);
}

TEST(Cli, TakesTheAgentFromTheEnvironment) {
    TestAgent a;
    const CommandResult result =
        run_command({"env", "GODWIT_AGENT=" + a.address(), program("godwit"), "host"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out,
                HasSubstr("transfer protocol " + std::to_string(kProtocolVersion) + ")"));
}

TEST(Cli, EveryCommandPrintsJson) {
    TestAgent a, b;
    const nlohmann::json started =
        json_of(a.cli({"vm", "start", write_vm_file(a, small_guest()), "--json"}));
    EXPECT_EQ(started["spec"]["name"], "vm");
    EXPECT_TRUE(a.cli_json({"vm", "list"})["vms"].is_array());
    EXPECT_EQ(a.cli_json({"vm", "show", "vm"})["state"], "running");
    EXPECT_TRUE(a.cli_json({"vm", "log", "vm"})["data"].is_string());
    EXPECT_EQ(a.cli_json({"host"})["vm_count"], 1);
    EXPECT_TRUE(a.cli_json({"list"})["migrations"].is_array());
    const nlohmann::json begun =
        a.cli_json({"migrate", "vm", "--to", b.address(), "--bandwidth", "1MiB/s", "--detach"});
    const std::string id = begun["migration_id"];
    EXPECT_EQ(a.cli_json({"report", id})["outcome"], "running");
    EXPECT_TRUE(a.cli_json({"cancel", id}).is_object());
    EXPECT_EQ(a.cli_json({"watch", id})["outcome"], "cancelled");
    EXPECT_TRUE(a.cli_json({"vm", "stop", "vm", "--force"}).is_object());
    EXPECT_EQ(a.cli_json({"report", "nothing"})["reason"], "NOT_FOUND");
}

TEST(Cli, WatchOfAnAgentThatDiesSaysHowToFindOut) {
    TestAgent a, b;
    start_guest(a, small_guest());
    BackgroundCommand migrating = a.cli_in_background(
        {"migrate", "vm", "--to", b.address(), "--id", "m", "--bandwidth", "1MiB/s"});
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] { return !b.vm_names().empty(); }));
    a.end(SIGKILL);
    ASSERT_TRUE(migrating.wait(std::chrono::seconds(30)));
    EXPECT_EQ(migrating.result().exit_code, 4) << "whoever reads it must look";
    EXPECT_THAT(last_line(migrating.result().err), HasSubstr("godwit report m"));
    a.restart();
    const CommandResult reported = a.cli({"report", "m"});
    EXPECT_EQ(reported.exit_code, 1);
    EXPECT_THAT(last_line(reported.err), HasSubstr("the guest is at the source"));
    expect_alive_and_well(a, "vm", 100);
    expect_nothing_left(b);
}

TEST(Cli, DetachPrintsTheIdAndWatchTellsTheEnd) {
    TestAgent a, b;
    start_guest(a, small_guest());
    const CommandResult begun = a.cli({"migrate", "vm", "--to", b.address(), "--id", "m",
                                       "--downtime-limit", "500ms", "--detach"});
    EXPECT_EQ(begun.exit_code, 0) << begun.err;
    EXPECT_EQ(begun.out, "m\n");
    const CommandResult watched = a.cli({"watch", "m"});
    EXPECT_EQ(watched.exit_code, 0) << watched.err;
    EXPECT_THAT(last_line(watched.err), HasSubstr("the guest is at the destination"));
    const CommandResult reported = a.cli({"report", "m"});
    EXPECT_EQ(reported.exit_code, 0);
    EXPECT_THAT(reported.out, HasSubstr("downtime"));
}

TEST(Cli, AnInterruptCancelsAMigrationButOnlyEndsAWatch) {
    TestAgent a, b;
    start_guest(a, small_guest());
    BackgroundCommand migrating = a.cli_in_background(
        {"migrate", "vm", "--to", b.address(), "--id", "m", "--bandwidth", "1MiB/s", "--json"});
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] {
        return a.cli_json({"report", "m"}).value("outcome", "") == "running";
    }));
    BackgroundCommand watching = a.cli_in_background({"watch", "m"});
    ASSERT_TRUE(
        eventually(std::chrono::seconds(20), [&] { return !watching.result().err.empty(); }));
    watching.signal(SIGINT);
    ASSERT_TRUE(watching.wait(std::chrono::seconds(20)));
    EXPECT_EQ(watching.result().exit_code, 0);
    EXPECT_THAT(watching.result().err, HasSubstr("godwit watch m"));
    migrating.signal(SIGINT);
    ASSERT_TRUE(migrating.wait(std::chrono::seconds(30)));
    expect_at_source(a, migrating.result(), {.exit_code = 5, .outcome = "cancelled"});
    expect_nothing_left(b);
}

TEST(Cli, ReportOfAMigrationUnderWaySaysHowToFollowIt) {
    TestAgent a, b;
    start_guest(a, small_guest());
    ASSERT_EQ(a.cli({"migrate", "vm", "--to", b.address(), "--id", "m", "--bandwidth", "1MiB/s",
                     "--detach"})
                  .exit_code,
              0);
    const CommandResult result = a.cli({"report", "m"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, HasSubstr("godwit watch m"));
    EXPECT_EQ(a.cli({"cancel", "m"}).exit_code, 0);
    EXPECT_THAT(a.cli({"cancel", "m"}).exit_code, AnyOf(0, 1)) << "it may not have ended yet";
    EXPECT_EQ(a.cli({"watch", "m"}).exit_code, 5);
    EXPECT_EQ(a.cli({"cancel", "m"}).exit_code, 1);
}

TEST(Cli, VmShowIsReadable) {
    TestAgent a;
    start_guest(a, small_guest());
    const CommandResult result = a.cli({"vm", "show", "vm"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, HasSubstr("memory     256.00 MiB (thp)\n"));
    EXPECT_THAT(result.out, HasSubstr("state      running\n"));
}

TEST(Cli, VmLogPrintsWhatTheGuestWroteAndFollowsItUntilTheVmEnds) {
    TestAgent a;
    start_guest(a, small_guest());
    const CommandResult once = a.cli({"vm", "log", "vm"});
    EXPECT_EQ(once.exit_code, 0);
    EXPECT_THAT(once.out, HasSubstr("running"));
    BackgroundCommand following = a.cli_in_background({"vm", "log", "vm", "--follow"});
    EXPECT_TRUE(eventually(std::chrono::seconds(20), [&] {
        return following.result().out.find("running") != std::string::npos;
    }));
    EXPECT_FALSE(following.wait(Duration::zero()));
    EXPECT_EQ(a.cli({"vm", "stop", "vm", "--force"}).exit_code, 0);
    EXPECT_TRUE(following.wait(std::chrono::seconds(20)));
    EXPECT_EQ(following.result().exit_code, 0) << following.result().err;
    EXPECT_EQ(a.cli({"vm", "log", "vm"}).exit_code, 3);
}

TEST(Cli, VmStopOfAGuestThatDoesNotPowerOffFailsAndTheGuestRunsOn) {
    TestAgent a;
    start_guest(a, small_guest());
    const CommandResult result = a.cli({"vm", "stop", "vm", "--timeout", "200ms"});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("use --force"));
    expect_alive_and_well(a, "vm", 100);
}

}  // namespace
}  // namespace godwit::testing
