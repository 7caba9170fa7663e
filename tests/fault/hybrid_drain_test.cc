// Agents are killed in the drain of a migration that had live rounds before.
#include <signal.h>
#include <sys/stat.h>

#include "tests/fault/drain_lab.h"

namespace godwit::testing {
namespace {

class Hybrid : public DrainLab {
  protected:
    // Some of its pages are there, some are stale there, some never came.
    BackgroundCommand begin_and_switch() {
        BackgroundCommand command =
            begin_migration({"--strategy", "hybrid", "--bandwidth", kBandwidth});
        EXPECT_TRUE(eventually(std::chrono::seconds(60), [&] {
            struct stat file {};
            for (const std::string& path : b.ram_files_on_disk())
                if (::stat(path.c_str(), &file) == 0 && file.st_blocks > 0) return true;
            return false;
        })) << "no page arrives";
        const CommandResult switched = a.cli({"switch", kId});
        EXPECT_EQ(switched.exit_code, 0) << switched.err;
        return command;
    }
};

TEST_F(Hybrid, SurvivesTheSourcesAgent) {
    BackgroundCommand command = begin_and_switch();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    ASSERT_TRUE(eventually(std::chrono::seconds(10), [&] { return journal_says("DRAINING"); }));
    const uint64_t missing = missing_at_b();
    a.end(SIGKILL);
    expect_lost(command);
    bring_back(a);
    expect_drained_in_the_end();
    const nlohmann::json postcopy = report()["postcopy"];
    // At the freeze, by its predecessor's journal; its successor heard of no more than these.
    EXPECT_GE(postcopy["missing_pages"], missing);
    EXPECT_EQ(postcopy["interruptions"], 1);
    EXPECT_GT(postcopy["drain_ms"], 0);
}

TEST_F(Hybrid, SurvivesTheDestinationsAgent) {
    BackgroundCommand command = begin_and_switch();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    b.end(SIGKILL);
    bring_back(b);
    expect_drained_by(command);
}

}  // namespace
}  // namespace godwit::testing
