#include "transport/control/peer.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

TEST(HostPort, IsReadFromAnAddressANameAndAnIpv6Address) {
    EXPECT_EQ(parse_host_port("10.0.0.2:7654")->host, "10.0.0.2");
    EXPECT_EQ(parse_host_port("node3:1")->port, 1);
    EXPECT_EQ(parse_host_port("[::1]:7654")->host, "::1");
    EXPECT_EQ(parse_host_port("[::1]:7654")->to_string(), "[::1]:7654");
    EXPECT_EQ(parse_host_port("node3:7654")->to_string(), "node3:7654");
}

TEST(HostPort, SaysHowToWriteWhatItCannotRead) {
    for (const char* text : {"", "node3", ":7654", "node3:", "node3:65536", "node3:-1", "node3:7x",
                             "::1:7654", "[]:7654", "[::1:7654", "node3: 7654"}) {
        const auto parsed = parse_host_port(text);
        ASSERT_FALSE(parsed.ok()) << text;
        EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
        EXPECT_NE(parsed.status().message().find("write it as HOST:PORT"), std::string::npos);
    }
}

TEST(HostPort, KnowsLoopback) {
    EXPECT_TRUE(parse_host_port("127.0.0.7:1")->is_loopback());
    EXPECT_TRUE(parse_host_port("localhost:1")->is_loopback());
    EXPECT_TRUE(parse_host_port("[::1]:1")->is_loopback());
    EXPECT_FALSE(parse_host_port("0.0.0.0:1")->is_loopback());
    EXPECT_FALSE(parse_host_port("10.0.0.1:1")->is_loopback());
}

TEST(AddressOfCaller, IsWhatItSaysUnlessThatIsAllAddresses) {
    EXPECT_EQ(address_of_caller("10.0.0.2:7654", "ipv4:10.0.0.9:40000"), "10.0.0.2:7654");
    EXPECT_EQ(address_of_caller("0.0.0.0:7654", "ipv4:10.0.0.9:40000"), "10.0.0.9:7654");
    EXPECT_EQ(address_of_caller("[::]:7654", "ipv6:[fd00::9]:40000"), "[fd00::9]:7654");
    EXPECT_EQ(address_of_caller("[::]:7654", "ipv6:%5Bfd00::9%5D:40000"), "[fd00::9]:7654");
    EXPECT_EQ(address_of_caller("[::]:7654", "ipv6:%5Bfe80::9%25eth0%5D:40000"),
              "[fe80::9%eth0]:7654");
    EXPECT_EQ(address_of_caller("[::]:7654", "ipv4:10.0.0.9:40000"), "10.0.0.9:7654");
}

TEST(AddressOfCaller, LeavesWhatCannotBeRead) {
    for (const char* caller : {"", "unix:/run/x", "ipv4:", "ipv4:10.0.0.9", "nonsense"})
        EXPECT_EQ(address_of_caller("0.0.0.0:7654", caller), "0.0.0.0:7654") << caller;
    EXPECT_EQ(address_of_caller("a liar", "ipv4:10.0.0.9:40000"), "a liar");
}

}  // namespace
}  // namespace godwit
