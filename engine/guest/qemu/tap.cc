#include "engine/guest/qemu/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <span>
#include <string_view>

#include "engine/base/hash.h"

namespace godwit {
namespace {

ifreq request_for(const std::string& name) {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    return request;
}

absl::Status join_bridge(const std::string& name, const std::string& bridge) {
    const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!control.valid()) return errno_status(errno, "socket");
    ifreq join = request_for(bridge);
    join.ifr_ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
    if (::ioctl(control.get(), SIOCBRADDIF, &join) != 0)
        return errno_status(errno, fmt::format("Cannot put {} on bridge {}", name, bridge));
    ifreq up = request_for(name);
    if (::ioctl(control.get(), SIOCGIFFLAGS, &up) != 0) return errno_status(errno, "SIOCGIFFLAGS");
    up.ifr_flags = static_cast<short>(up.ifr_flags | IFF_UP);
    if (::ioctl(control.get(), SIOCSIFFLAGS, &up) != 0)
        return errno_status(errno, fmt::format("Cannot set {} up", name));
    return absl::OkStatus();
}

}  // namespace

std::string tap_name(const std::string& state_dir, const std::string& vm_name,
                     const std::string& nonce, int nic_index) {
    const std::string key = fmt::format("{}\n{}\n{}\n{}", state_dir, vm_name, nonce, nic_index);
    return fmt::format("gw{:08x}", checksum_bytes(std::as_bytes(std::span(key))) & 0xffffffff);
}

absl::Status check_bridge(const std::string& bridge) {
    const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!control.valid()) return errno_status(errno, "socket");
    // Asked of the driver: sysfs may be that of another network namespace.
    ethtool_drvinfo driver{};
    driver.cmd = ETHTOOL_GDRVINFO;
    ifreq request = request_for(bridge);
    request.ifr_data = reinterpret_cast<char*>(&driver);
    if (::ioctl(control.get(), SIOCETHTOOL, &request) == 0 &&
        std::string_view(driver.driver) == "bridge")
        return absl::OkStatus();
    return absl::NotFoundError(fmt::format("this host has no bridge \"{}\"", bridge));
}

absl::StatusOr<UniqueFd> create_tap(const std::string& name, const std::string& bridge) {
    UniqueFd tap(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!tap.valid()) return errno_status(errno, "Cannot open /dev/net/tun");
    ifreq request = request_for(name);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL);
    if (::ioctl(tap.get(), TUNSETIFF, &request) != 0)
        return errno_status(errno, fmt::format("Cannot make TAP device {}", name));
    GODWIT_RETURN_IF_ERROR(join_bridge(name, bridge));
    return tap;
}

}  // namespace godwit
