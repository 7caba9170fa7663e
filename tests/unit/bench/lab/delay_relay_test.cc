#include "bench/lab/delay_relay.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "bench/lab/child.h"
#include "bench/lab/shaped_link.h"

namespace godwit {
namespace {

struct Ends {
    UniqueFd inner, outer;
};

Ends make_pair_of_ends() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()), 0);
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

std::string receive(int fd) {
    std::array<char, 100> buffer{};
    pollfd wanted{fd, POLLIN, 0};
    if (::poll(&wanted, 1, 20'000) != 1) return "nothing";
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    return {buffer.data(), static_cast<size_t>(std::max<ssize_t>(got, 0))};
}

void send(int fd, const std::string& text) {
    ASSERT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

TEST(DelayRelay, CarriesBothWaysInOrderAndNeverTooEarly) {
    Ends a = make_pair_of_ends();
    Ends b = make_pair_of_ends();
    constexpr Duration kDelay = std::chrono::milliseconds(20);
    const auto relay = DelayRelay::start(
        {.ends = {std::move(a.inner), std::move(b.inner)}, .delay = kDelay, .capacity = 1 << 20});
    ASSERT_TRUE(relay.ok()) << relay.status();
    const MonotonicTime begun = Clock::system().now();
    for (int i = 0; i < 200; ++i) send(a.outer.get(), "there " + std::to_string(i));
    send(b.outer.get(), "back");
    EXPECT_EQ(receive(a.outer.get()), "back");
    EXPECT_GE(Clock::system().now() - begun, kDelay);
    for (int i = 0; i < 200; ++i) EXPECT_EQ(receive(b.outer.get()), "there " + std::to_string(i));
    EXPECT_EQ((*relay)->dropped_packets(), 0U);
}

TEST(DelayRelay, WhatItHasNoRoomForIsDropped) {
    Ends a = make_pair_of_ends();
    Ends b = make_pair_of_ends();
    const auto relay = DelayRelay::start({.ends = {std::move(a.inner), std::move(b.inner)},
                                          .delay = std::chrono::milliseconds(50),
                                          .capacity = 10});
    ASSERT_TRUE(relay.ok()) << relay.status();
    send(a.outer.get(), "12345678");
    send(a.outer.get(), "too much");
    EXPECT_EQ(receive(b.outer.get()), "12345678");
    EXPECT_EQ((*relay)->dropped_packets(), 1U);
}

TEST(ShapedLink, ALongCableReachesItsOtherEndToo) {
    if (::geteuid() != 0) GTEST_SKIP() << "network namespaces need root";
    const auto link = ShapedLink::create(125'000'000, std::chrono::milliseconds(1));
    if (absl::IsNotFound(link.status())) GTEST_SKIP() << link.status();
    ASSERT_TRUE(link.ok()) << link.status();
    const auto hosts = (*link)->hosts();
    std::vector<std::string> argv = hosts[0].wrapper;
    argv.insert(argv.end(), {"bash", "-c", "exec 3<>/dev/tcp/" + hosts[1].address + "/1; true"});
    auto child = Child::start(argv);
    ASSERT_TRUE(child.ok()) << child.status();
    ASSERT_TRUE(child->wait(Clock::system().now() + std::chrono::seconds(20), -1).ok());
    EXPECT_NE(child->err().find("refused"), std::string::npos) << child->err();
    EXPECT_GT(*(*link)->bytes(), 0);
}

}  // namespace
}  // namespace godwit
