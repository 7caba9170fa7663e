// Asks a VNC server for its password, as a viewer does.
#pragma once

#include <cstdint>
#include <string>

#include "tests/harness/command.h"

namespace godwit::testing {

enum class VncAnswer {
    kUnreachable,
    kNoPassword,  // it lets anybody in
    kRefused,     // not this password
    kAccepted,
};

// Connects to a port of the loopback device in the network namespace of `pid`. At most 8 characters
// of a password count (RFC 6143, 7.2.2).
VncAnswer try_vnc(pid_t pid, uint16_t port, const std::string& password);

}  // namespace godwit::testing
