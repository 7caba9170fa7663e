#include "transport/stream/socket_address.h"

#include <fmt/format.h>

namespace godwit {

absl::StatusOr<AddressList> resolve_address(const std::string& host, uint16_t port, bool passive) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
    addrinfo* list = nullptr;
    const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                    std::to_string(port).c_str(), &hints, &list);
    if (error != 0)
        return absl::NotFoundError(
            fmt::format("Cannot find the address of \"{}\": {}", host, ::gai_strerror(error)));
    return AddressList(list);
}

}  // namespace godwit
