#include "engine/guest/qemu/qmp_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <future>

#include "engine/guest/qemu/qmp_lines.h"

namespace godwit {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kQmpLong = seconds(20);
constexpr const char* kGreeting = R"({"QMP": {"version": {}, "capabilities": ["oob"]}})";

// The other end of the socket: says what a test tells it to.
class FakeQemu {
  public:
    explicit FakeQemu(UniqueFd socket) : socket_(std::move(socket)) {}

    void say(const std::string& line) { say_raw(line + "\r\n"); }
    void say_raw(const std::string& bytes) {
        size_t sent = 0;
        while (sent < bytes.size()) {
            const ssize_t put =
                ::send(socket_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
            if (put <= 0) return;
            sent += static_cast<size_t>(put);
        }
    }
    // The next command; null when the client is gone. A passed descriptor lands in passed_fd.
    Json hear() {
        while (buffer_.find('\n') == std::string::npos)
            if (!read_some()) return nullptr;
        const size_t end = buffer_.find('\n');
        Json command = Json::parse(buffer_.substr(0, end), nullptr, false);
        buffer_.erase(0, end + 1);
        return command;
    }
    // Waits for bytes, and leaves them to hear().
    std::string hear_some() {
        while (buffer_.empty() && read_some()) {
        }
        return buffer_;
    }
    [[nodiscard]] const std::string& heard() const { return buffer_; }
    void answer(const Json& command, const std::string& rest) {
        say(fmt::format("{{\"id\": {}, {}}}", command["id"].get<uint64_t>(), rest));
    }
    void negotiate() {
        say(kGreeting);
        answer(hear(), "\"return\": {}");
    }
    void hang_up() { socket_.reset(); }

    UniqueFd passed_fd;

  private:
    bool read_some() {
        std::array<char, 4096> chunk{};
        iovec part{chunk.data(), chunk.size()};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
        if (got <= 0) return false;
        if (const cmsghdr* header = CMSG_FIRSTHDR(&message)) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
            passed_fd.reset(fd);
        }
        buffer_.append(chunk.data(), static_cast<size_t>(got));
        return true;
    }

    UniqueFd socket_;
    std::string buffer_;
};

class QmpClientTest : public testing::Test {
  protected:
    void SetUp() override {
        std::array<int, 2> fds{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
        ours_.reset(fds[0]);
        qemu_ = std::make_unique<FakeQemu>(UniqueFd(fds[1]));
    }

    absl::StatusOr<std::unique_ptr<QmpClient>> handshake(Duration limit = kQmpLong) {
        return QmpClient::handshake(std::move(ours_), Clock::system().now() + limit,
                                    [this](const QmpEvent& event, MonotonicTime) {
                                        const std::lock_guard lock(mutex_);
                                        events_.push_back(event.name);
                                    });
    }
    // Connected, with the greeting behind it.
    std::unique_ptr<QmpClient> ready() {
        auto client = std::async(std::launch::async, [this] { return handshake(); });
        qemu_->negotiate();
        auto connected = client.get();
        EXPECT_TRUE(connected.ok()) << connected.status();
        return connected.ok() ? *std::move(connected) : nullptr;
    }
    static std::future<absl::StatusOr<Json>> call(QmpClient& client, std::string command,
                                                  Duration limit = kQmpLong) {
        return std::async(std::launch::async, [&client, command = std::move(command), limit] {
            return client.execute(command, {}, limit);
        });
    }
    std::vector<std::string> events() {
        const std::lock_guard lock(mutex_);
        return events_;
    }

    UniqueFd ours_;
    std::unique_ptr<FakeQemu> qemu_;
    std::mutex mutex_;
    std::vector<std::string> events_;
};

TEST_F(QmpClientTest, ACommandHasItsArgumentsAndItsReply) {
    const auto client = ready();
    auto reply = std::async(std::launch::async, [&] {
        return client->execute("migrate", {{"uri", "fd:x"}}, kQmpLong);
    });
    const Json command = qemu_->hear();
    EXPECT_EQ(command["execute"], "migrate");
    EXPECT_EQ(command["arguments"]["uri"], "fd:x");
    qemu_->answer(command, "\"return\": {\"a\": 1}");
    const auto answer = reply.get();
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(json_number(*answer, "a"), 1);
}

TEST_F(QmpClientTest, RepliesFindTheirCommandsInAnyOrder) {
    const auto client = ready();
    auto first = call(*client, "first");
    const Json first_command = qemu_->hear();
    auto second = call(*client, "second");
    const Json second_command = qemu_->hear();
    qemu_->answer(second_command, "\"return\": 2");
    EXPECT_EQ(second.get()->get<int>(), 2);
    qemu_->answer(first_command, "\"return\": 1");
    EXPECT_EQ(first.get()->get<int>(), 1);
}

TEST_F(QmpClientTest, AForeseenCommandIsWholeOnlyWhenItIsExecuted) {
    const auto client = ready();
    client->foresee("migrate-continue", {{"state", "pre-switchover"}});
    EXPECT_THAT(qemu_->hear_some(), testing::HasSubstr("pre-switchover"));
    EXPECT_EQ(qemu_->heard().find('\n'), std::string::npos);
    auto reply = std::async(std::launch::async, [&] {
        return client->execute("migrate-continue", {{"state", "pre-switchover"}}, kQmpLong);
    });
    const Json command = qemu_->hear();
    EXPECT_EQ(command["execute"], "migrate-continue");
    EXPECT_EQ(command["arguments"]["state"], "pre-switchover");
    qemu_->answer(command, "\"return\": 5");
    EXPECT_EQ(reply.get()->get<int>(), 5);
}

TEST_F(QmpClientTest, AForeseenCommandWithoutArgumentsIsSentOnce) {
    const auto client = ready();
    client->foresee("cont", {});
    auto reply = call(*client, "cont");
    const Json command = qemu_->hear();
    EXPECT_EQ(command["execute"], "cont");
    qemu_->answer(command, "\"return\": 6");
    EXPECT_EQ(reply.get()->get<int>(), 6);
}

TEST_F(QmpClientTest, AnotherCommandTakesAForeseenOneBack) {
    const auto client = ready();
    client->foresee("cont", {});
    client->foresee("quit", {});  // there is one already
    auto reply = call(*client, "query-status");
    EXPECT_TRUE(qemu_->hear().is_discarded());  // ends in what is no JSON
    qemu_->say(R"({"error": {"class": "GenericError", "desc": "JSON parse error"}})");
    const Json command = qemu_->hear();
    EXPECT_EQ(command["execute"], "query-status");
    qemu_->answer(command, "\"return\": 1");
    EXPECT_EQ(reply.get()->get<int>(), 1);
    auto cont = call(*client, "cont");
    const Json whole = qemu_->hear();
    EXPECT_EQ(whole["execute"], "cont");
    qemu_->answer(whole, "\"return\": 2");
    EXPECT_EQ(cont.get()->get<int>(), 2);
}

TEST_F(QmpClientTest, AForeseenCommandIsNotExecutedWithOtherArguments) {
    const auto client = ready();
    client->foresee("cont", {{"force", true}});
    auto cont = call(*client, "cont");
    EXPECT_TRUE(qemu_->hear().is_discarded());
    const Json whole = qemu_->hear();
    EXPECT_FALSE(whole.contains("arguments"));
    qemu_->answer(whole, "\"return\": 3");
    EXPECT_EQ(cont.get()->get<int>(), 3);
}

TEST_F(QmpClientTest, AnErrorIsInQemusWords) {
    const auto client = ready();
    auto reply = call(*client, "cont");
    qemu_->answer(qemu_->hear(),
                  R"("error": {"class": "GenericError", "desc": "Failed to get \"write\" lock"})");
    const absl::Status status = reply.get().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(status.message(), "cont: Failed to get \"write\" lock");
    EXPECT_TRUE(client->state().ok());
}

TEST_F(QmpClientTest, ADescriptorTravelsWithItsCommand) {
    const auto client = ready();
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const UniqueFd read_end(pipe[0]);
    const UniqueFd write_end(pipe[1]);
    auto reply = std::async(std::launch::async, [&] {
        return client->execute("getfd", {{"fdname", "x"}}, kQmpLong, write_end.get());
    });
    qemu_->answer(qemu_->hear(), "\"return\": {}");
    EXPECT_TRUE(reply.get().ok());
    struct stat sent {};
    struct stat got {};
    ASSERT_EQ(::fstat(write_end.get(), &sent), 0);
    ASSERT_EQ(::fstat(qemu_->passed_fd.get(), &got), 0);
    EXPECT_EQ(sent.st_ino, got.st_ino);
}

TEST_F(QmpClientTest, EventsArriveBetweenReplies) {
    const auto client = ready();
    auto reply = call(*client, "stop");
    const Json command = qemu_->hear();
    qemu_->say(R"({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}})");
    qemu_->answer(command, "\"return\": {}");
    ASSERT_TRUE(reply.get().ok());
    EXPECT_EQ(events(), std::vector<std::string>{"STOP"});
}

TEST_F(QmpClientTest, ALineMayArriveInPieces) {
    const auto client = ready();
    auto reply = call(*client, "query-status");
    const uint64_t id = qemu_->hear()["id"];
    const std::string line =
        fmt::format("{{\"event\": \"A\"}}\n\n{{\"id\": {}, \"return\": 9}}\n", id);
    for (const char byte : line) qemu_->say_raw(std::string(1, byte));
    EXPECT_EQ(reply.get()->get<int>(), 9);
    EXPECT_EQ(events(), std::vector<std::string>{"A"});
}

TEST_F(QmpClientTest, NoAnswerIsDeadlineExceededAndALateOneIsIgnored) {
    const auto client = ready();
    auto slow = call(*client, "stop", milliseconds(20));
    const Json command = qemu_->hear();
    const absl::Status status = slow.get().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(status.message().substr(0, 5), "stop:");
    qemu_->answer(command, "\"return\": 1");
    auto next = call(*client, "query-status");
    qemu_->answer(qemu_->hear(), "\"return\": 2");
    EXPECT_EQ(next.get()->get<int>(), 2);
}

TEST_F(QmpClientTest, ALostConnectionEndsEveryWaiter) {
    const auto client = ready();
    auto first = call(*client, "first");
    (void)qemu_->hear();
    auto second = call(*client, "second");
    (void)qemu_->hear();
    qemu_->hang_up();
    EXPECT_EQ(first.get().status().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(second.get().status().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(client->execute("third", {}, kQmpLong).status().code(),
              absl::StatusCode::kUnavailable);
    EXPECT_TRUE(client->wait_closed(kQmpLong));
}

TEST_F(QmpClientTest, WhatWasSaidLastIsHeardThoughTheCommandBeforeItWasNeverRead) {
    const auto client = ready();
    EXPECT_FALSE(client->wait_told_all(Duration::zero()));
    EXPECT_FALSE(client->execute("first", {}, std::chrono::milliseconds(1)).ok());
    qemu_->say(R"({"event": "RESUME"})");
    qemu_->hang_up();
    EXPECT_TRUE(client->wait_told_all(kQmpLong));
    EXPECT_EQ(events(), std::vector<std::string>{"RESUME"});
}

TEST_F(QmpClientTest, ASessionThatWeEndedHasNotToldAll) {
    const auto client = ready();
    client->stop();
    EXPECT_FALSE(client->wait_told_all(kQmpLong));
}

TEST_F(QmpClientTest, StopEndsEveryWaiter) {
    const auto client = ready();
    auto waiting = call(*client, "first");
    (void)qemu_->hear();
    client->stop();
    EXPECT_EQ(waiting.get().status().code(), absl::StatusCode::kCancelled);
}

TEST_F(QmpClientTest, GarbageEndsTheSession) {
    const auto client = ready();
    auto waiting = call(*client, "first");
    (void)qemu_->hear();
    qemu_->say("\x01\x02 this is no JSON {");
    EXPECT_EQ(waiting.get().status().code(), absl::StatusCode::kInternal);
    EXPECT_FALSE(client->state().ok());
}

TEST_F(QmpClientTest, AnOverlongLineEndsTheSession) {
    const auto client = ready();
    auto waiting = call(*client, "first");
    (void)qemu_->hear();
    qemu_->say_raw(std::string(QmpLines::kMaxLineBytes + 100'000, 'x'));
    const absl::Status status = waiting.get().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_NE(status.message().find("16.00 MiB"), std::string::npos) << status;
}

TEST_F(QmpClientTest, APeerThatSaysNothingIsGivenUp) {
    EXPECT_EQ(handshake(milliseconds(20)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(QmpClientTest, APeerThatDoesNotReadIsGivenUp) {
    const auto client = ready();
    const Json arguments{{"x", std::string(size_t{8} << 20, 'x')}};
    EXPECT_EQ(client->execute("big", arguments, milliseconds(50)).status().code(),
              absl::StatusCode::kDeadlineExceeded);
    // Half a command is on the wire.
    EXPECT_FALSE(client->execute("next", {}, kQmpLong).ok());
}

TEST_F(QmpClientTest, APeerThatRefusesTheHandshakeIsGivenUp) {
    auto client = std::async(std::launch::async, [this] { return handshake(); });
    qemu_->say(kGreeting);
    qemu_->answer(qemu_->hear(), R"("error": {"class": "GenericError", "desc": "no"})");
    EXPECT_EQ(client.get().status().message(), "qmp_capabilities: no");
}

TEST_F(QmpClientTest, TooManyWaitersAreRefused) {
    const auto client = ready();
    std::vector<std::future<absl::StatusOr<Json>>> waiting;
    for (size_t i = 0; i < QmpClient::kMaxPending; ++i) {
        waiting.push_back(call(*client, "wait"));
        (void)qemu_->hear();
    }
    EXPECT_EQ(client->execute("more", {}, kQmpLong).status().code(),
              absl::StatusCode::kResourceExhausted);
    client->stop();
}

TEST(QmpClient, NoSocketIsNotFoundAndALongPathIsSaid) {
    const auto deadline = Clock::system().now() + seconds(1);
    EXPECT_EQ(QmpClient::connect("/nonexistent/qmp.sock", deadline, nullptr).status().code(),
              absl::StatusCode::kNotFound);
    EXPECT_EQ(QmpClient::connect("/" + std::string(200, 'a'), deadline, nullptr).status().code(),
              absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace godwit
