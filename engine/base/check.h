// GODWIT_CHECK: an invariant of our own code, kept on in release. Never for bytes from a peer,
// QEMU, the kernel or a user: those get a Status.
#pragma once

namespace godwit {

// Prints the failed condition with its place to stderr and aborts.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace godwit

#define GODWIT_CHECK(condition) \
    ((condition) ? static_cast<void>(0) : ::godwit::check_failed(#condition, __FILE__, __LINE__))
