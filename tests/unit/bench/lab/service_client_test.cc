#include "bench/lab/service_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <sstream>

namespace godwit {
namespace {

using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::Pair;

// A Redis that knows PING, SET and GET of one connection after the other.
class SmallRedis {
  public:
    explicit SmallRedis(int forget_after = -1) : forget_after_(forget_after) {
        listening_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in here{};
        here.sin_family = AF_INET;
        here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::bind(listening_.get(), reinterpret_cast<sockaddr*>(&here), sizeof here);
        ::listen(listening_.get(), 4);
        socklen_t size = sizeof here;
        ::getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&here), &size);
        port_ = ntohs(here.sin_port);
        thread_ = std::jthread([this] { serve(); });
    }
    ~SmallRedis() { ::shutdown(listening_.get(), SHUT_RDWR); }
    [[nodiscard]] uint16_t port() const { return port_; }
    // The connection is cut after so many more SETs.
    void cut_after(int sets) { cut_after_ = sets; }
    void wait_for_sets(int count) const {
        for (int seen = sets_; seen < count; seen = sets_) sets_.wait(seen);
    }

  private:
    void serve() {
        for (;;) {
            const UniqueFd fd(::accept(listening_.get(), nullptr, nullptr));
            if (!fd.valid()) return;
            std::string line;
            for (char byte = 0; ::recv(fd.get(), &byte, 1, 0) == 1;) {
                line += byte;
                if (byte != '\n') continue;
                const std::string answer = answer_to(line);
                line.clear();
                if (answer.empty() ||
                    ::send(fd.get(), answer.data(), answer.size(), MSG_NOSIGNAL) < 0)
                    break;
            }
        }
    }
    std::string answer_to(const std::string& line) {
        std::istringstream in(line);
        std::string word, key, value;
        in >> word >> key >> value;
        if (word == "PING") return "+PONG\r\n";
        if (word == "GET" && values_.contains(key))
            return "$" + std::to_string(values_[key].size()) + "\r\n" + values_[key] + "\r\n";
        if (word == "GET") return "$-1\r\n";
        const int number = ++sets_;
        sets_.notify_all();
        if (cut_after_ > 0 && --cut_after_ == 0) return "";
        if (number != forget_after_) values_[key] = value;
        return "+OK\r\n";
    }

    const int forget_after_;  // this SET is answered and not kept
    UniqueFd listening_;
    uint16_t port_ = 0;
    std::atomic<int> sets_ = 0, cut_after_ = 0;
    std::map<std::string, std::string> values_;
    std::jthread thread_;
};

ServiceSeen use(SmallRedis& redis, int sets) {
    auto client = ServiceClient::start({.address = "127.0.0.1", .port = redis.port()},
                                       std::chrono::seconds(30), -1);
    EXPECT_TRUE(client.ok()) << client.status();
    if (!client.ok()) return {};
    redis.wait_for_sets(sets);
    auto seen = (*client)->stop();
    EXPECT_TRUE(seen.ok()) << seen.status();
    return seen.ok() ? *std::move(seen) : ServiceSeen{};
}

TEST(ServiceClient, CountsWhatItIsAnswered) {
    SmallRedis redis;
    const ServiceSeen seen = use(redis, 50);
    EXPECT_GE(seen.answers.size(), 49U);
    EXPECT_EQ(seen.lost_connections, 0);
    EXPECT_EQ(seen.lost_writes, 0);
}

TEST(ServiceClient, AWriteThatWasAnsweredAndIsNotThereIsLost) {
    SmallRedis redis(/*forget_after=*/20);
    EXPECT_EQ(use(redis, 50).lost_writes, 1);
}

TEST(ServiceClient, AConnectionThatIsCutIsLostAndMadeAnew) {
    SmallRedis redis;
    redis.cut_after(20);
    const ServiceSeen seen = use(redis, 50);
    EXPECT_EQ(seen.lost_connections, 1);
    EXPECT_EQ(seen.lost_writes, 0) << "the one that was not answered may be there or not";
}

TEST(ServiceClient, NobodyWhoAnswersIsAnError) {
    EXPECT_EQ(ServiceClient::start({.address = "127.0.0.1", .port = 1}, milliseconds(100), -1)
                  .status()
                  .code(),
              absl::StatusCode::kUnavailable);
}

TEST(ServiceMetrics, TheBlackoutIsTheLongestWaitSinceTheRequest) {
    const MonotonicTime zero{};
    ServiceSeen seen{.lost_connections = 2, .disk_good = 7, .disk_bad = 1, .pings_sent = 5};
    // That of 410 ms began before the request, and is over when it comes.
    for (const int at : {10, 20, 430, 510, 600, 620, 1010, 1090})
        seen.answers.push_back(zero + milliseconds(at));
    seen.pings = {zero + milliseconds(505), zero + milliseconds(605), zero + milliseconds(1095)};
    const Metrics metrics = service_metrics(seen, {.begun = zero,
                                                   .requested = zero + milliseconds(500),
                                                   .done = zero + milliseconds(1000),
                                                   .ended = zero + milliseconds(1100)});
    EXPECT_THAT(metrics, Contains(Pair("client_before_per_s", 6)));
    EXPECT_THAT(metrics, Contains(Pair("client_during_per_s", 6)));
    EXPECT_THAT(metrics, Contains(Pair("client_after_per_s", 20)));
    EXPECT_THAT(metrics, Contains(Pair("client_blackout_ms", 390)));
    EXPECT_THAT(metrics, Contains(Pair("client_lost_connections", 2)));
    EXPECT_THAT(metrics, Contains(Pair("ping_blackout_ms", 490)));
    EXPECT_THAT(metrics, Contains(Pair("pings_lost", 2)));
    EXPECT_THAT(metrics, Contains(Pair("disk_rounds", 8)));
    EXPECT_THAT(metrics, Contains(Pair("disk_errors", 1)));
}

}  // namespace
}  // namespace godwit
