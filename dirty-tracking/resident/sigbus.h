// SIGBUS (a poisoned page of guest RAM): KVM reports it at an address of view A, QEMU knows view B
// alone.
#pragma once

#include <signal.h>

namespace godwit::resident {

// QEMU's sigaction(SIGBUS): its handler is called by one of ours, which QEMU never sees.
int wrap_sigbus(const struct sigaction* action, struct sigaction* old);

}  // namespace godwit::resident
