#include "engine/guest/qemu/tap.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace godwit {
namespace {

// Runs on a thread with a network of its own, so that the host's bridges stay as they are.
template <typename Test>
void in_own_network(Test test) {
    std::thread([&] {
        if (::unshare(CLONE_NEWNET) != 0)
            GTEST_SKIP() << "needs root: it makes a network namespace";
        test();
    }).join();
}

TEST(Tap, NamesFitAnInterfaceAndTellVmsApart) {
    const std::string name = tap_name("/s", "demo", "00000001", 0);
    EXPECT_EQ(name.size(), 10U);
    EXPECT_EQ(name.substr(0, 2), "gw");
    EXPECT_NE(name, tap_name("/t", "demo", "00000001", 0));
    EXPECT_NE(name, tap_name("/s", "demo", "00000002", 0));
    EXPECT_NE(name, tap_name("/s", "demo", "00000001", 1));
}

TEST(Tap, IsOnItsBridgeAndVanishesWithItsDescriptor) {
    in_own_network([] {
        const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        if (::ioctl(control.get(), SIOCBRADDBR, "gwtest0") != 0)
            GTEST_SKIP() << "needs bridges in the kernel";
        EXPECT_TRUE(check_bridge("gwtest0").ok());
        EXPECT_EQ(check_bridge("lo").code(), absl::StatusCode::kNotFound);
        EXPECT_EQ(check_bridge("gwnone").code(), absl::StatusCode::kNotFound);
        {
            const auto tap = create_tap("gw00000001", "gwtest0");
            ASSERT_TRUE(tap.ok()) << tap.status();
            EXPECT_NE(::if_nametoindex("gw00000001"), 0U);
            ifreq request{};
            std::string("gw00000001").copy(request.ifr_name, IFNAMSIZ - 1);
            ASSERT_EQ(::ioctl(control.get(), SIOCGIFFLAGS, &request), 0);
            EXPECT_NE(request.ifr_flags & IFF_UP, 0);
            EXPECT_FALSE(create_tap("gw00000001", "gwtest0").ok());
        }
        EXPECT_EQ(::if_nametoindex("gw00000001"), 0U);
        EXPECT_FALSE(create_tap("gw00000002", "gwnone").ok());
        EXPECT_EQ(::if_nametoindex("gw00000002"), 0U);
    });
}

}  // namespace
}  // namespace godwit
