// Who may connect, and what is left when the agent goes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

class ResidentConnection : public ResidentTest {};

TEST_F(ResidentConnection, IsRefusedByNameWhereTheLibraryIsNotLoaded) {
    ResidentTargetOptions options;
    options.preload = "";
    auto target = ResidentTarget::start(options);
    ASSERT_TRUE(target.ok()) << target.status();
    const auto client = (*target)->connect();
    EXPECT_EQ(client.status().code(), absl::StatusCode::kNotFound);
    EXPECT_NE(client.status().message().find("LD_PRELOAD"), std::string::npos);
}

TEST_F(ResidentConnection, IsRefusedWhenTheSocketOrTheProcessHasGone) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    const auto pid = target_->program->pid();
    EXPECT_EQ(ResidentClient::connect(target_->socket_path + "x", pid).status().code(),
              absl::StatusCode::kNotFound);
    EXPECT_EQ(ResidentClient::connect("/tmp/" + std::string(200, 'x'), pid).status().code(),
              absl::StatusCode::kInvalidArgument);
    target_->program->kill_and_reap();
    EXPECT_EQ(ResidentClient::connect(target_->socket_path, pid).status().code(),
              absl::StatusCode::kNotFound);
    EXPECT_EQ(client_->state().status().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(client_->state().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ResidentConnection, ServesThreeAndNoFourth) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    auto second = target_->connect();
    ASSERT_TRUE(second.ok()) << second.status();
    const auto third = target_->connect();
    ASSERT_TRUE(third.ok()) << third.status();
    const auto fourth = target_->connect();
    EXPECT_EQ(fourth.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(fourth.status().message().find("another agent"), std::string::npos);
    EXPECT_EQ(write({9}), "fine");
    EXPECT_EQ(collect(), Pages{9});
    second->reset();
    EXPECT_TRUE(target_->connect().ok());
    client_.reset();
    ASSERT_NO_FATAL_FAILURE(connect());
}

TEST_F(ResidentConnection, KeepsItsLogWhateverTheOtherOneDoes) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    auto other = target_->connect();
    ASSERT_TRUE(other.ok()) << other.status();
    const absl::Status refused = (*other)->start_log(target_->blocks);
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(refused.message().find("has the log"), std::string::npos) << refused;
    PageSet dirty = target_->empty_set();
    EXPECT_FALSE((*other)->collect(dirty).ok());
    EXPECT_FALSE((*other)->rearm(0, {0, 1}).ok());
    EXPECT_TRUE((*other)->stop_log().ok());
    EXPECT_TRUE((*other)->set_throttle(50).ok());
    other->reset();
    EXPECT_EQ(write({9}), "fine");
    EXPECT_EQ(collect(), Pages{9});
    // Which ends with its own connection, for the other one to begin anew.
    ASSERT_TRUE((other = target_->connect()).ok()) << other.status();
    client_.reset();
    client_ = *std::move(other);
    EXPECT_TRUE(client_->state().ok());  // served after the first one was let go
    EXPECT_EQ(client_->state()->held_percent, 0u);
    ASSERT_NO_FATAL_FAILURE(start_log());
}

TEST_F(ResidentConnection, EndsTheLogWhenItIsClosed) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    EXPECT_TRUE(client_->set_throttle(50).ok());
    EXPECT_NE(target_->tell("kernel-get 1"), "ENOENT");
    client_.reset();
    ASSERT_NO_FATAL_FAILURE(connect());  // served after the other one was let go
    EXPECT_EQ(target_->tell("kernel-get 1"), "ENOENT");
    const auto state = client_->state();
    ASSERT_TRUE(state.ok());
    EXPECT_FALSE(state->log_on);
    EXPECT_EQ(state->held_percent, 0u);
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(write({9}), "fine");
    EXPECT_EQ(collect(), Pages{9});
}

// A socket beside the resident's, served by the test.
class PlayedResident {
  public:
    explicit PlayedResident(const ResidentTarget& target)
        : path_(target.socket_path + "-played"),
          listener_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(
            ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
        EXPECT_EQ(::listen(listener_.get(), 4), 0);
    }
    ~PlayedResident() { ::unlink(path_.c_str()); }
    PlayedResident(const PlayedResident&) = delete;
    PlayedResident& operator=(const PlayedResident&) = delete;

    // The error of a connection to which this is the first answer.
    absl::Status connect(pid_t pid, const void* greeting, size_t bytes) {
        std::thread server([&] {
            const UniqueFd agent(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            EXPECT_EQ(::send(agent.get(), greeting, bytes, MSG_NOSIGNAL),
                      static_cast<ssize_t>(bytes));
        });
        absl::Status status = ResidentClient::connect(path_, pid).status();
        server.join();
        return status;
    }
    absl::Status connect_without_answer(pid_t pid) {
        return ResidentClient::connect(path_, pid, std::chrono::milliseconds(20)).status();
    }

  private:
    std::string path_;
    UniqueFd listener_;
};

TEST_F(ResidentConnection, IsRefusedByNameWhenTheVersionsDiffer) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    PlayedResident played(*target_);
    resident::Reply greeting;
    greeting.header = {.version = 9, .length = sizeof greeting};
    const absl::Status status = played.connect(target_->program->pid(), &greeting, sizeof greeting);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(status.message().find("version 9"), std::string::npos) << status;
}

TEST_F(ResidentConnection, SurvivesAResidentThatTalksNonsense) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    PlayedResident played(*target_);
    const pid_t pid = target_->program->pid();
    resident::Reply greeting;
    EXPECT_FALSE(played.connect(pid, "x", 1).ok());
    EXPECT_FALSE(played.connect(pid, std::string(5000, 'x').c_str(), 5000).ok());
    greeting.header = {.length = sizeof greeting - 1};
    EXPECT_FALSE(played.connect(pid, &greeting, sizeof greeting).ok());
    EXPECT_EQ(played.connect_without_answer(pid).code(), absl::StatusCode::kDeadlineExceeded);
}

// An agent of its own process, killed while it works.
pid_t start_agent(const ResidentTarget& target, int ready) {
    const pid_t agent = ::fork();
    if (agent != 0) return agent;
    auto client = target.connect();
    if (!client.ok() || !(*client)->start_log(target.blocks).ok()) ::_exit(1);
    if (!(*client)->set_throttle(60).ok()) ::_exit(1);
    (void)!::write(ready, "x", 1);
    PageSet dirty = target.empty_set();
    while ((*client)->collect(dirty).ok() && (*client)->rearm(0, {0, 1024}).ok()) {
    }
    ::_exit(1);
}

TEST_F(ResidentConnection, OfAnAgentKilledInARoundLeavesTheGuestAtFullSpeed) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    client_.reset();
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 1024}), "fine");
    EXPECT_EQ(target_->tell("run 0 1 " + std::to_string(kGuestPage * kPageBytes) + " 1024"),
              "fine");
    for (int i = 0; i < 5; ++i) {
        int ready[2] = {};
        ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
        const pid_t agent = start_agent(*target_, ready[1]);
        char byte = 0;
        ::close(ready[1]);
        EXPECT_EQ(::read(ready[0], &byte, 1), 1);
        ::close(ready[0]);
        ::kill(agent, SIGKILL);
        ::waitpid(agent, nullptr, 0);
        ASSERT_NO_FATAL_FAILURE(connect());
        EXPECT_EQ(target_->tell("kernel-get 1"), "ENOENT");
        const auto state = client_->state();
        ASSERT_TRUE(state.ok());
        EXPECT_EQ(state->held_percent, 0u);
        EXPECT_FALSE(state->log_on);
        client_.reset();
    }
    EXPECT_EQ(target_->tell("halt 0"), "fine");
}

TEST_F(ResidentConnection, IsOfNoUseWithoutManualProtect) {
    ASSERT_NO_FATAL_FAILURE(start_target({.arguments = {"manual=0"}}));
    const auto state = client_->state();
    ASSERT_TRUE(state.ok());
    EXPECT_NE(state->problem, "");
    const absl::Status status = client_->start_log(target_->blocks);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(status.message().find("MANUAL"), std::string::npos);
    EXPECT_TRUE(client_->state().ok());
}

TEST_F(ResidentConnection, IsOfNoUseWithTheDirtyRing) {
    auto target = ResidentTarget::start({.arguments = {"ring"}});
    if (!target.ok()) GTEST_SKIP() << "this KVM has no dirty ring: " << target.status();
    target_ = *std::move(target);
    ASSERT_NO_FATAL_FAILURE(connect());
    const auto state = client_->state();
    ASSERT_TRUE(state.ok());
    EXPECT_TRUE(state->dirty_ring);
    const absl::Status status = client_->start_log(target_->blocks);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(status.message().find("ring"), std::string::npos);
}

TEST_F(ResidentConnection, SaysThatThereIsNoKvm) {
    ASSERT_NO_FATAL_FAILURE(start_target({.arguments = {"no-kvm"}}));
    const auto state = client_->state();
    ASSERT_TRUE(state.ok());
    EXPECT_FALSE(state->has_kvm);
    EXPECT_NE(state->problem, "");
    EXPECT_EQ(client_->start_log(target_->blocks).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(client_->set_throttle(50).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ResidentConnection, RefusesABlockThatQemuDoesNotMap) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    std::vector<RamBlock> blocks;
    blocks.push_back(std::move(target_->blocks[0]));
    blocks[0].inode += 100;
    EXPECT_EQ(client_->start_log(blocks).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(client_->state().ok());
}

TEST_F(ResidentConnection, IsHiddenFromTheChildrenOfQemu) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->tell("environment"), "child |");
    ResidentTargetOptions options;
    options.preload = std::string("libc.so.6:") + GODWIT_RESIDENT_LIBRARY + " libm.so.6";
    client_.reset();
    ASSERT_NO_FATAL_FAILURE(start_target(options));
    EXPECT_EQ(target_->tell("environment"), "child libc.so.6:libm.so.6|");
}

TEST_F(ResidentConnection, SurvivesForksInTheMiddleOfItsWork) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    std::atomic<bool> end{false};
    std::thread busy([&] {
        PageSet dirty = target_->empty_set();
        while (!end) {
            EXPECT_TRUE(client_->collect(dirty).ok());
            EXPECT_TRUE(client_->rearm(0, {0, 1024}).ok());
        }
    });
    for (int i = 0; i < 20; ++i)
        EXPECT_EQ(target_->tell("fork " + target_->blocks[0].path + " 0"), "fine");
    end = true;
    busy.join();
    EXPECT_EQ(write({9}), "fine");
    EXPECT_TRUE(collect().contains(9));
}

}  // namespace
}  // namespace godwit
