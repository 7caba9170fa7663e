#include "transport/stream/tcp_options.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>

#include "tests/unit/transport/stream/channel_pairs.h"

namespace godwit {
namespace {

using testing::HasSubstr;

std::string peer_of(int socket) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
    std::array<char, INET_ADDRSTRLEN> text{};
    return ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
}

std::string congestion_control_of(int socket) {
    std::array<char, 16> name{};
    socklen_t size = name.size();
    EXPECT_EQ(::getsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size), 0);
    return name.data();
}

TEST(TcpOptions, AConnectionComesFromTheAddressThatWasAskedFor) {
    for (const char* address : {"127.0.0.2", "127.0.0.3"}) {
        const ChannelPair pair = tcp_pair({.source_address = address});
        EXPECT_EQ(peer_of(pair.second->fd()), address);
    }
}

TEST(TcpOptions, AnAddressOfNobodyHereIsRefused) {
    EXPECT_TRUE(check_source_address("127.0.0.2").ok());
    EXPECT_TRUE(check_source_address("::1").ok());
    const absl::Status other = check_source_address("192.0.2.1");  // RFC 5737: documentation
    EXPECT_TRUE(absl::IsInvalidArgument(other));
    EXPECT_EQ(other.message(), "192.0.2.1 is not an address of this host");
    for (const char* wrong : {"", "localhost", "10.0.0", "127.0.0.1:80"})
        EXPECT_TRUE(absl::IsInvalidArgument(check_source_address(wrong))) << wrong;
}

TEST(TcpOptions, AnAddressOfAnotherFamilyThanTheDestinationsIsNamed) {
    auto listener = TcpListener::bind("127.0.0.1", 0);
    ASSERT_TRUE(listener.ok());
    const auto channel =
        connect_tcp("127.0.0.1", listener->port(), far_deadline(), -1, {.source_address = "::1"});
    EXPECT_THAT(std::string(channel.status().message()), HasSubstr("Cannot come from ::1"));
}

TEST(TcpOptions, TheCongestionControlReachesTheSocket) {
    ASSERT_TRUE(check_congestion_control("reno").ok());  // every Linux has it
    const ChannelPair pair = tcp_pair({.congestion_control = "reno"});
    EXPECT_EQ(congestion_control_of(pair.first->fd()), "reno");
}

TEST(TcpOptions, ACongestionControlThatIsNoneIsRefusedWithThoseThatThereAre) {
    for (const char* wrong : {"teleport", "a-name-that-the-kernel-would-cut", "reno "}) {
        const absl::Status status = check_congestion_control(wrong);
        EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong;
        EXPECT_THAT(std::string(status.message()), HasSubstr("reno")) << wrong;
    }
}

}  // namespace
}  // namespace godwit
