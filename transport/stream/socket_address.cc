#include "transport/stream/socket_address.h"

#include <fmt/format.h>

namespace godwit {
namespace {

absl::StatusOr<AddressList> look_up(const std::string& host, uint16_t port, int flags) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | flags;
    addrinfo* list = nullptr;
    const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                    std::to_string(port).c_str(), &hints, &list);
    if (error != 0)
        return absl::NotFoundError(
            fmt::format("Cannot find the address of \"{}\": {}", host, ::gai_strerror(error)));
    return AddressList(list);
}

}  // namespace

absl::StatusOr<AddressList> resolve_address(const std::string& host, uint16_t port, bool passive) {
    return look_up(host, port, passive ? AI_PASSIVE : 0);
}

absl::StatusOr<AddressList> resolve_numeric(const std::string& address) {
    if (address.empty()) return absl::NotFoundError("an empty address");
    return look_up(address, 0, AI_NUMERICHOST);
}

}  // namespace godwit
