// Agents that are killed while they move a domain whose definition is to move too: their successors
// finish it, and virsh shows on both sides what --persistent and --undefine-source say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/fault/lab.h"
#include "tests/harness/guest.h"
#include "tests/harness/libvirt_pair.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr Duration kSuccessorLimit = std::chrono::seconds(120);

class LibvirtSuccessor : public LibvirtPair {
  protected:
    // Returns with the agent held at that step.
    BackgroundCommand begin_held(TestAgent& agent, std::string_view step,
                                 const std::vector<std::string>& flags = {}) {
        agent.restart_with(hold_at(step).flags);
        std::vector<std::string> words = {"--persistent", "--undefine-source", "--id", kId};
        words.insert(words.end(), flags.begin(), flags.end());
        BackgroundCommand command = begin_migration(words);
        await_held(agent);
        return command;
    }
    static void succeed(TestAgent& agent) {
        agent.end(SIGKILL);
        agent.restart_with({});
    }
    json final_report() {
        json report;
        EXPECT_TRUE(eventually(kSuccessorLimit, [&] {
            report = json_of(a->cli({"report", kId, "--json"}));
            const std::string outcome =
                report.is_object() ? report.value("outcome", "running") : "running";
            return outcome != "running" && outcome != "in-doubt";
        })) << report.dump();
        return report;
    }
    // The domain is b's with its definition, and a knows nothing of it.
    void expect_moved_for_good() {
        expect_only_at(host_b, *b, host_a, "");
        EXPECT_EQ(host_a.virsh_text({"list", "--all", "--name"}), "");
        EXPECT_TRUE(eventually(kSuccessorLimit, [&] {
            return host_b.virsh({"list", "--persistent", "--name"}).out.rfind(kVm, 0) == 0;
        })) << host_b.virsh({"dominfo", kVm}).out;
        EXPECT_THAT(host_b.virsh_text({"dumpxml", "--inactive", kVm}), Not(HasSubstr("-incoming")));
        EXPECT_EQ(host_b.virsh({"destroy", kVm}).exit_code, 0);
        EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "shut off");
    }
};

TEST_F(LibvirtSuccessor, OfASourceThatWasKilledAfterCommitUndefinesTheDomain) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*a, step::kResumedSeen);
    succeed(*a);
    EXPECT_TRUE(command.wait(kSuccessorLimit));
    const json report = final_report();
    EXPECT_EQ(report["outcome"], "done") << report.dump();
    EXPECT_EQ(report["warnings"], json::array()) << report.dump();
    expect_moved_for_good();
}

TEST_F(LibvirtSuccessor, OfASourceThatWasKilledInTheDrainUndefinesTheDomain) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*a, step::kDraining, {"--strategy", "postcopy"});
    succeed(*a);
    EXPECT_TRUE(command.wait(kSuccessorLimit));
    const json report = final_report();
    EXPECT_EQ(report["outcome"], "done") << report.dump();
    expect_moved_for_good();
}

TEST_F(LibvirtSuccessor, OfADestinationThatWasKilledBeforeCommitLeavesEverythingToTheSource) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*b, step::kLoadDone);
    succeed(*b);
    ASSERT_TRUE(command.wait(kSuccessorLimit));
    EXPECT_EQ(command.result().exit_code, 1) << command.result().err;
    EXPECT_EQ(json_of(command.result())["guest_at"], "source");
    EXPECT_THAT(host_a.virsh_text({"dominfo", kVm}), ContainsRegex("Persistent: *yes"));
    EXPECT_TRUE(eventually(kSuccessorLimit, [&] {
        return host_b.virsh_text({"list", "--all", "--name"}).empty();
    }));
    expect_at_a_and_moves();
}

TEST_F(LibvirtSuccessor, OfADestinationThatWasKilledAfterCommitDefinesTheDomain) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*b, step::kContNoted);
    succeed(*b);
    ASSERT_TRUE(command.wait(kSuccessorLimit));
    EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
    expect_moved_for_good();
}

// The journal says that the guest is there, and its domain was not put in order yet.
TEST_F(LibvirtSuccessor, OfADestinationThatWasKilledAfterTheLastPageDefinesTheDomain) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*b, step::kLastPageCame, {"--strategy", "postcopy"});
    succeed(*b);
    ASSERT_TRUE(command.wait(kSuccessorLimit));
    EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
    expect_moved_for_good();
}

// The source lets go of its definition, so the destination tries until it has one.
TEST_F(LibvirtSuccessor, IsNotNeededWhereLibvirtdIsAwayWhenTheGuestHasCome) {
    ASSERT_NO_FATAL_FAILURE(start());
    BackgroundCommand command = begin_held(*b, step::kContDone);
    host_b.stop_libvirtd();
    let_go(*b);
    EXPECT_TRUE(eventually(kSuccessorLimit, [&] {
        return b->log().find("is here, but not as it was there") != std::string::npos;
    })) << b->log();
    EXPECT_NE(host_a.virsh_text({"list", "--all", "--name"}), "") << "nobody else has it yet";
    host_b.start_libvirtd();
    ASSERT_TRUE(command.wait(kSuccessorLimit));
    EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
    EXPECT_EQ(host_a.virsh_text({"list", "--all", "--name"}), "");
    EXPECT_TRUE(eventually(kSuccessorLimit, [&] { return b->vm(kVm)["migration_id"] == ""; }));
    expect_moved_for_good();
}

TEST_F(LibvirtSuccessor, OfADestinationOfAPausedDomainDefinesItAndLeavesItPaused) {
    ASSERT_NO_FATAL_FAILURE(start());
    ASSERT_EQ(host_a.virsh({"suspend", kVm}).exit_code, 0);
    BackgroundCommand command = begin_held(*b, step::kContNoted);
    succeed(*b);
    ASSERT_TRUE(command.wait(kSuccessorLimit));
    EXPECT_EQ(command.result().exit_code, 0) << command.result().err;
    EXPECT_EQ(host_b.virsh_text({"domstate", kVm}), "paused");
    EXPECT_EQ(host_b.virsh({"resume", kVm}).exit_code, 0);
    expect_moved_for_good();
}

}  // namespace
}  // namespace godwit::testing
