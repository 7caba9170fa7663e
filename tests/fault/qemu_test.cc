// A QEMU dies, or its disk is somebody else's.
#include <fmt/format.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "tests/fault/drain_lab.h"

namespace godwit::testing {
namespace {

class Qemu : public Lab {
  protected:
    void expect_nowhere() {
        expect_nothing_left(a, kVm);
        expect_nothing_left(b, kVm);
        EXPECT_TRUE(a.ram_files_on_disk().empty());
        EXPECT_TRUE(b.ram_files_on_disk().empty());
    }
};

class SourceQemuKilled : public Qemu, public ::testing::WithParamInterface<std::string_view> {};

TEST_P(SourceQemuKilled, IsAGuestThatDiedAndNothingIsLeft) {
    a.restart(hold_at(GetParam()));
    BackgroundCommand command = begin_migration();
    await_held(a);
    kill_process(a.qemu_pid(kVm));
    let_go(a);
    expect_end(command, kDied, "none");
    expect_nowhere();
}

INSTANTIATE_TEST_SUITE_P(Steps, SourceQemuKilled,
                         ::testing::Values(step::kPrepared, step::kRoundSent, step::kGuardStarted,
                                           step::kGuardArmed, step::kFrozen, step::kLastPagesSent,
                                           step::kDeviceStateLeaves),
                         step_name);

TEST_F(Qemu, SourceKilledInTheMiddleOfARoundIsAGuestThatDied) {
    BackgroundCommand command = begin_slow_round();
    kill_process(a.qemu_pid(kVm));
    expect_end(command, kDied, "none");
    expect_nowhere();
}

// All of the guest is at the destination by then, and only there.
TEST_F(Qemu, SourceKilledWhenAllIsSentDoesNotTakeTheGuestAlong) {
    a.restart(hold_at(step::kVerified));
    BackgroundCommand command = begin_migration();
    await_held(a);
    kill_process(a.qemu_pid(kVm));
    let_go(a);
    expect_end(command, kDone, "destination");
    expect_only_at(b, a);
}

class DestinationQemuKilled : public Qemu,
                              public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestinationQemuKilled, LeavesTheGuestRunningAtTheSourceWithItsDisks) {
    b.restart(hold_at(GetParam()));
    BackgroundCommand command = begin_migration();
    await_held(b);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    let_go(b);
    expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {"QEMU"}}, "source");
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, DestinationQemuKilled,
                         ::testing::Values(step::kIncoming, step::kStreamsAccepted,
                                           step::kDeviceStateCame, step::kLoadDone,
                                           step::kCommitCame, step::kContNoted),
                         step_name);

// It is asked to run the guest before its agent can know that it never will.
class DestinationQemuDyingWhenCommitComes : public Qemu,
                                            public ::testing::WithParamInterface<std::string_view> {
};

TEST_P(DestinationQemuDyingWhenCommitComes, LeavesTheGuestRunningAtTheSourceWithItsDisks) {
    b.restart(hold_at(step::kCommitCame));
    BackgroundCommand command = begin_migration({"--strategy", std::string(GetParam())});
    await_held(b);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    const pid_t qemu = b.qemu_pids().front();
    ASSERT_EQ(::kill(qemu, SIGSTOP), 0);
    let_go(b);
    await_commit_heard();
    EXPECT_FALSE(command.wait(std::chrono::seconds(1)));
    kill_process(qemu);
    expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {"QEMU", "never run"}},
               "source");
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Strategies, DestinationQemuDyingWhenCommitComes,
                         ::testing::Values("precopy", "postcopy"), step_name);

class DestinationQemuKilledWhileTheSourceIs
    : public Qemu,
      public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestinationQemuKilledWhileTheSourceIs, LeavesTheGuestRunningAtTheSourceWithItsDisks) {
    a.restart(hold_at(GetParam()));
    BackgroundCommand command = begin_migration();
    await_held(a);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    await_log("could not load the device state");  // what the source does next is what it knows
    let_go(a);
    expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {"QEMU"}}, "source");
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, DestinationQemuKilledWhileTheSourceIs,
                         ::testing::Values(step::kRoundSent, step::kFrozen, step::kLoaded,
                                           step::kVerified),
                         step_name);

// The round would take minutes.
TEST_F(Qemu, DestinationKilledInTheMiddleOfARoundIsSeenAtOnce) {
    BackgroundCommand command = begin_slow_round();
    kill_process(b.qemu_pids().front());
    expect_end(command, kFailed, "source");
    expect_at_a_and_moves();
}

// A destination that has a file of its own under the name of the disk; somebody else writes it.
class LockedImage : public Qemu {
  protected:
    void lock_image_of_b() {
        const std::string other = b.state_dir() + "/other.raw";
        std::filesystem::copy_file(scratch, other);
        const std::string see_other = fmt::format(
            "mount --bind {} {} && touch {}/seen && exec sleep 600", other, scratch, b.state_dir());
        host_.emplace(std::vector<std::string>{"unshare", "-m", "sh", "-c", see_other});
        holder_.emplace(std::vector<std::string>{"qemu-io", "-f", "raw", "-c", "write -P 7 0 512",
                                                 "-c", "flush", "-c", "sleep 600000", other});
        ASSERT_TRUE(eventually(std::chrono::seconds(20),
                               [&] {
                                   return std::filesystem::exists(b.state_dir() + "/seen") &&
                                          std::ifstream(other).peek() == 7;
                               }))
            << host_->result().err << holder_->result().err;
    }
    [[nodiscard]] AgentOptions in_b(std::vector<std::string> flags = {}) const {
        return {.flags = std::move(flags),
                .wrapper = {"nsenter", "-m", "-t", std::to_string(host_->pid())}};
    }

  private:
    std::optional<BackgroundCommand> host_;
    std::optional<BackgroundCommand> holder_;
};

TEST_F(LockedImage, MakesTheDestinationRefuseAndTheSourceGoesOn) {
    lock_image_of_b();
    b.restart(in_b());
    BackgroundCommand command = begin_migration({"--unsafe"});
    expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {"refused", "lock"}},
               "source");
    expect_only_at(a, b);
    b.restart(AgentOptions{});
    expect_moves(a, b);
}

// `cont` is refused while faults are served and pages are on their way: none of it is of any use,
// and the guest has all its pages where it was.
TEST_F(LockedImage, MakesTheDestinationRefuseWithPagesStillToComeAsWell) {
    lock_image_of_b();
    b.restart(in_b());
    BackgroundCommand command =
        begin_migration({"--unsafe", "--strategy", "postcopy", "--bandwidth", "4MiB/s"});
    expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {"refused", "lock"}},
               "source");
    EXPECT_TRUE(kept_files(a).empty()) << ::testing::PrintToString(kept_files(a));
    expect_only_at(a, b);
    expect_alive_and_well(a, kVm, 6'000);  // all that it has
    b.restart(AgentOptions{});
    expect_moves(a, b);
}

TEST_F(LockedImage, IsStillARefusalWhenTheDestinationsAgentDiesBeforeItsAnswer) {
    lock_image_of_b();
    b.restart(in_b(hold_at(step::kContRefused).flags));
    BackgroundCommand command = begin_migration({"--unsafe"});
    await_held(b);
    b.end(SIGKILL);
    EXPECT_FALSE(command.wait(std::chrono::seconds(1)));
    let_go(b);
    b.restart(in_b());
    expect_end(command, {.exit_code = 1, .outcome = "failed"}, "source");
    expect_only_at(a, b);
}

}  // namespace
}  // namespace godwit::testing
