// The addresses that a host name and a port stand for.
#pragma once

#include <netdb.h>

#include <cstdint>
#include <memory>
#include <string>

#include "engine/base/status.h"

namespace godwit {

struct AddressListDeleter {
    void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, AddressListDeleter>;

// Stream-socket addresses, in the resolver's order of preference; an empty host with `passive` is
// every address of this host. A name may wait for the resolver; a numeric address never does.
// Errors: NotFound with the resolver's reason.
absl::StatusOr<AddressList> resolve_address(const std::string& host, uint16_t port, bool passive);

// One, if it is written as a number; an empty one is none. Errors: NotFound.
absl::StatusOr<AddressList> resolve_numeric(const std::string& address);

}  // namespace godwit
