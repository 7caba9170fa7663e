#include "bench/lab/shaped_link.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "bench/lab/child.h"
#include "tests/unit/bench/lab/soon.h"

namespace godwit {
namespace {

constexpr const char* kNetDev =
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"
    "    lo:       1       1    0    0    0     0          0         0        1       1    0\n"
    " cable:    1000      10    0    0    0     0          0         0      234       5    0\n";

TEST(ShapedLink, CountsBothDirectionsOfADevice) {
    const auto bytes = parse_device_bytes(kNetDev, "cable");
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_EQ(*bytes, 1234);
    EXPECT_TRUE(absl::IsNotFound(parse_device_bytes(kNetDev, "able").status()));
    EXPECT_TRUE(absl::IsNotFound(parse_device_bytes("", "cable").status()));
}

TEST(ShapedLink, FindsWhatTcpSentAgain) {
    const auto again = parse_retransmissions(
        "Ip: Forwarding RetransSegs\nIp: 1 77\n"
        "Tcp: RtoAlgorithm MaxConn RetransSegs InErrs\nTcp: 1 -1 42 3\nUdp: RetransSegs\nUdp: 5\n");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, 42);
    EXPECT_TRUE(absl::IsNotFound(parse_retransmissions("Tcp: RetransSegs\n").status()));
    EXPECT_TRUE(absl::IsNotFound(parse_retransmissions("Tcp: RetransSegs\nTcp: x\n").status()));
    EXPECT_TRUE(absl::IsNotFound(parse_retransmissions("").status()));
}

TEST(ShapedLink, ItsHostsReachEachOtherAndKeepTheirPids) {
    if (::geteuid() != 0) GTEST_SKIP() << "network namespaces need root";
    const auto link = ShapedLink::create(125'000'000);
    ASSERT_TRUE(link.ok()) << link.status();
    const auto hosts = (*link)->hosts();
    const auto before = (*link)->bytes();
    ASSERT_TRUE(before.ok()) << before.status();
    std::vector<std::string> argv = hosts[0].wrapper;
    // A TCP connection that is refused has crossed the cable twice.
    argv.insert(argv.end(),
                {"bash", "-c", "echo $$; exec 3<>/dev/tcp/" + hosts[1].address + "/1; true"});
    auto child = Child::start(argv);
    ASSERT_TRUE(child.ok()) << child.status();
    ASSERT_TRUE(child->wait(soon(), -1).ok());
    EXPECT_EQ(child->out(), std::to_string(child->pid()) + "\n");
    EXPECT_NE(child->err().find("refused"), std::string::npos) << child->err();
    EXPECT_GT(*(*link)->bytes(), *before);
}

}  // namespace
}  // namespace godwit
