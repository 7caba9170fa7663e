#include "engine/base/cpu_latency.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <fstream>

namespace godwit {
namespace {

constexpr const char* kDevice = "/dev/cpu_dma_latency";
constexpr int32_t kMostUs = 1'000'000;

std::string current_driver() {
    std::ifstream file("/sys/devices/system/cpu/cpuidle/current_driver");
    std::string name;
    std::getline(file, name);
    return name;
}

}  // namespace

absl::StatusOr<CpuLatencyHold> CpuLatencyHold::take(CpuLatencyLimit limit) {
    CpuLatencyHold hold;
    if (!limit) return hold;
    hold.fd_.reset(::open(kDevice, O_WRONLY | O_CLOEXEC));
    if (!hold.fd_.valid()) return errno_status(errno, fmt::format("open of {}", kDevice));
    const auto us = static_cast<int32_t>(limit->count());
    if (::write(hold.fd_.get(), &us, sizeof us) != sizeof us)
        return errno_status(errno, fmt::format("write to {}", kDevice));
    return hold;
}

std::chrono::microseconds default_cpu_latency(std::string_view cpuidle_driver) {
    return std::chrono::microseconds(cpuidle_driver == "haltpoll" ? 0 : 2);
}

absl::StatusOr<CpuLatencyLimit> parse_cpu_latency(std::string_view text) {
    if (text == "off") return CpuLatencyLimit();
    if (text == "auto") return default_cpu_latency(current_driver());
    int32_t us = -1;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, us);
    if (error != std::errc() || rest != end || us < 0 || us > kMostUs)
        return absl::InvalidArgumentError(
            fmt::format("\"{}\": use auto, off, or microseconds from 0 to {}", text, kMostUs));
    return std::chrono::microseconds(us);
}

}  // namespace godwit
