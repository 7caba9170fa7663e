// Groups whose agent answers late, not at all, or to a command that Ctrl-C ends.
#include "tools/godwit/fleet_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <iostream>
#include <streambuf>

#include "tests/unit/tools/godwit/fake_agent.h"
#include "tools/godwit/fleet_command.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;
using Call = FakeAgent::Call;

constexpr auto kPatience = std::chrono::seconds(20);

// What is written to std::cerr while it lives.
class Said final : private std::streambuf {
  public:
    Said() : before_(std::cerr.rdbuf(this)) {}
    ~Said() override { std::cerr.rdbuf(before_); }
    // False: nobody has said it, and nobody will.
    bool await(const std::string& words) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, kPatience,
                                 [&] { return text_.find(words) != std::string::npos; });
    }

  private:
    int overflow(int c) override {
        const char letter = static_cast<char>(c);
        xsputn(&letter, 1);
        return c;
    }
    std::streamsize xsputn(const char* text, std::streamsize count) override {
        const std::lock_guard lock(mutex_);
        text_.append(text, static_cast<size_t>(count));
        changed_.notify_all();
        return count;
    }

    std::streambuf* const before_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string text_;  // guarded by mutex_
};

// Whoever conducts the group is the thread of the test, and Ctrl-C comes to it alone.
class Conducted : public ::testing::Test {
  protected:
    Conducted() {
        Interrupts::block();
        interrupts_.emplace();
    }
    ~Conducted() override { interrupts_->drain(); }

    void press_ctrl_c() const { ::pthread_kill(conductor_, SIGINT); }

    const FleetBoard& run(bool gang, Bytes bandwidth = 0) {
        order_ = {.vms = {"web", "db"}, .at_a_time = 2, .is_gang = gang};
        v1::MigrateRequest request;
        request.set_bandwidth_bytes_per_s(bandwidth);
        run_.emplace(*client_, *interrupts_, *Wakeup::create(), order_, request,
                     FleetRun::Options{.gang = gang});
        run_->run();
        return run_->board();
    }
    const FleetBoard& run_gang() { return run(true); }

    FakeAgent agent_;
    Said said_;

  private:
    const pthread_t conductor_ = ::pthread_self();
    std::optional<Interrupts> interrupts_;
    const std::unique_ptr<AgentClient> client_ = agent_.client();
    FleetOrder order_;
    std::optional<FleetRun> run_;
};

class GangOfTwo : public Conducted {};
class TwoAtATime : public Conducted {};
class FleetCommand : public Conducted {};

const FleetEnd& end_of_vm(const FleetBoard& board, const std::string& vm) {
    for (const FleetGuest& guest : board.guests())
        if (guest.vm == vm) return guest.end;
    ADD_FAILURE() << "nothing is known of " << vm;
    return board.guest(0).end;
}

TEST_F(GangOfTwo, AProceedThatNoAgentWasThereForIsSaidAgain) {
    agent_.on_proceed = [](const Call& call) {
        return call.vm == "db" && call.times == 1
                   ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "being restarted")
                   : grpc::Status::OK;
    };
    const FleetBoard& board = run_gang();
    EXPECT_EQ(board.exit_code(), ExitCode::kDone) << end_of_vm(board, "db").reason;
    EXPECT_EQ(agent_.proceeds("db"), 2);
    EXPECT_EQ(agent_.proceeds("web"), 1);
    EXPECT_FALSE(board.is_split());
}

TEST_F(GangOfTwo, AProceedThatIsNotNeededAnyMoreIsSaidOnce) {
    agent_.on_proceed = [&](const Call& call) {
        if (call.vm == "web") return grpc::Status::OK;
        agent_.finish("db");  // somebody let it go on by hand
        return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "has no live rounds any more");
    };
    const FleetBoard& board = run_gang();
    EXPECT_EQ(board.exit_code(), ExitCode::kDone);
    EXPECT_EQ(agent_.proceeds("db"), 1);
}

TEST_F(GangOfTwo, ThatWasToldToProceedIsNotCancelledByCtrlC) {
    agent_.on_proceed = [&](const Call& call) {
        if (call.vm == "web") return grpc::Status::OK;
        press_ctrl_c();
        EXPECT_TRUE(said_.await("too late to cancel: they switch over"));
        return grpc::Status::OK;
    };
    const FleetBoard& board = run_gang();
    EXPECT_EQ(board.exit_code(), ExitCode::kDone);
    EXPECT_EQ(agent_.cancels("web") + agent_.cancels("db"), 0);
}

TEST_F(GangOfTwo, ThatSwitchesOverIsLeftByASecondCtrlC) {
    agent_.on_proceed = [&](const Call& call) {
        if (call.vm == "web") return grpc::Status::OK;
        press_ctrl_c();
        EXPECT_TRUE(said_.await("too late to cancel: they switch over"));
        press_ctrl_c();
        agent_.hang(call);
        return grpc::Status(grpc::StatusCode::CANCELLED, "");
    };
    const FleetBoard& board = run_gang();
    EXPECT_EQ(board.exit_code(), ExitCode::kNeedsOperator);
    const FleetEnd& db = end_of_vm(board, "db");
    EXPECT_EQ(db.outcome, "detached");
    EXPECT_FALSE(db.guest_at.has_value()) << "nobody knows";
    EXPECT_THAT(db.reason, HasSubstr("godwit watch m-db"));
    EXPECT_EQ(agent_.cancels("web") + agent_.cancels("db"), 0);
}

TEST_F(GangOfTwo, ThatGathersIsCancelledByCtrlCAndNobodyProceeds) {
    agent_.on_watch = [&](const Call& call) {
        // Ready, but it has not been heard yet: the other one never is.
        if (call.vm == "db") press_ctrl_c();
        return grpc::Status::OK;
    };
    agent_.is_ready = [](const std::string& vm) { return vm == "web"; };
    const FleetBoard& board = run_gang();
    EXPECT_EQ(board.exit_code(), ExitCode::kCancelled);
    EXPECT_EQ(agent_.proceeds("web") + agent_.proceeds("db"), 0);
    EXPECT_EQ(end_of_vm(board, "web").outcome, "cancelled");
    EXPECT_EQ(end_of_vm(board, "db").guest_at, v1::GUEST_AT_SOURCE);
}

TEST_F(TwoAtATime, AreLeftByASecondCtrlCThoughNobodyAnswersTheCancel) {
    std::atomic<int> watched{0};
    agent_.on_watch = [&](const Call&) {
        if (++watched == 2) press_ctrl_c();
        return grpc::Status::OK;
    };
    std::atomic<int> asked{0};
    agent_.on_cancel = [&](const Call& call) {
        if (++asked == 2) press_ctrl_c();
        return agent_.hang(call);
    };
    const FleetBoard& board = run(false);
    EXPECT_EQ(board.exit_code(), ExitCode::kNeedsOperator);
    for (const char* vm : {"web", "db"}) {
        EXPECT_EQ(end_of_vm(board, vm).outcome, "detached");
        EXPECT_EQ(agent_.cancels(vm), 1);
    }
}

TEST_F(TwoAtATime, HearCtrlCWhileAnAgentHangsThatIsToldItsShare) {
    agent_.on_watch = [&](const Call& call) {
        if (call.vm == "web") agent_.finish("web");
        return grpc::Status::OK;
    };
    agent_.on_limit = [&](const Call& call) {
        press_ctrl_c();
        EXPECT_TRUE(said_.await("cancelling"));
        return agent_.hang(call);
    };
    const FleetBoard& board = run(false, Bytes{64} << 20);
    EXPECT_EQ(agent_.limits("db"), 1) << "what the other one had is its share now";
    EXPECT_EQ(end_of_vm(board, "web").outcome, "done");
    EXPECT_EQ(end_of_vm(board, "db").outcome, "cancelled");
    EXPECT_EQ(board.exit_code(), ExitCode::kCancelled);
}

TEST_F(FleetCommand, BeginsNothingWhenCtrlCComesWhileItSeesWhatVmsWrite) {
    agent_.add_vm("web", "");
    agent_.add_vm("db", "");
    agent_.on_measure = [&](const Call& call) {
        if (call.vm == "web") press_ctrl_c();
        return agent_.hang(call);
    };
    const std::unique_ptr<AgentClient> client = agent_.client();
    v1::MigrateRequest request;
    request.set_destination("127.0.0.1:1");
    EXPECT_EQ(run_fleet(*client, {.request = request}), ExitCode::kCancelled);
    EXPECT_EQ(agent_.migrations("web") + agent_.migrations("db"), 0);
}

TEST_F(FleetCommand, HasOneVmMoveWhileItLooksCloserAtTheOthers) {
    for (const char* vm : {"web", "db", "mail"}) agent_.add_vm(vm, "");
    const auto begun = [&] {
        return agent_.migrations("web") + agent_.migrations("db") + agent_.migrations("mail");
    };
    std::atomic<int> looked{0};
    agent_.on_measure = [&](const Call& call) {
        if (call.times == 1) return grpc::Status::OK;
        ++looked;
        const auto until = std::chrono::steady_clock::now() + kPatience;
        while (begun() == 0 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
        EXPECT_EQ(begun(), 1) << "nothing else begins before it has been looked at";
        EXPECT_EQ(agent_.migrations(call.vm), 0) << "what moves is not measured";
        return grpc::Status::OK;
    };
    agent_.on_watch = [&](const Call& call) {
        agent_.finish(call.vm);
        return grpc::Status::OK;
    };
    const std::unique_ptr<AgentClient> client = agent_.client();
    v1::MigrateRequest request;
    request.set_destination("127.0.0.1:1");
    EXPECT_EQ(run_fleet(*client, {.request = request}), ExitCode::kDone);
    EXPECT_EQ(looked, 2);
    for (const char* vm : {"web", "db", "mail"}) EXPECT_EQ(agent_.migrations(vm), 1);
}

TEST_F(FleetCommand, CancelsTheFirstWhenCtrlCComesWhileItLooksAtTheOthers) {
    for (const char* vm : {"web", "db"}) agent_.add_vm(vm, "");
    agent_.on_measure = [&](const Call& call) {
        if (call.times == 1) return grpc::Status::OK;
        press_ctrl_c();
        return agent_.hang(call);
    };
    const std::unique_ptr<AgentClient> client = agent_.client();
    v1::MigrateRequest request;
    request.set_destination("127.0.0.1:1");
    EXPECT_EQ(run_fleet(*client, {.request = request}), ExitCode::kCancelled);
    EXPECT_EQ(agent_.migrations("web") + agent_.migrations("db"), 1);
    EXPECT_EQ(agent_.cancels("web") + agent_.cancels("db"), 1);
}

TEST_F(FleetCommand, RefusesAVmThatIsNamedOnceByItsNameAndOnceByItsUuid) {
    agent_.add_vm("web", "6f6b1d2e-0000-4000-8000-00000000000f");
    const std::unique_ptr<AgentClient> client = agent_.client();
    EXPECT_EQ(run_fleet(*client, {.vms = {"web", "6F6B1D2E00004000800000000000000F"}}),
              ExitCode::kUsage);
    EXPECT_TRUE(said_.await("are one VM, web; nothing was begun"));
    EXPECT_EQ(agent_.migrations("web"), 0);
}

}  // namespace
}  // namespace godwit
