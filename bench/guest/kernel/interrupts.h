// The local APIC: exceptions that end the guest with a message, a slow timer for rate=idle, and the
// start of the other CPUs.
#pragma once

#include <cstdint>

namespace godwit::guest {

// Builds the interrupt table and masks the legacy controllers. First vCPU, once.
void prepare_interrupts();
// Loads the table and enables the local APIC of the calling vCPU.
void enable_interrupts_here();
// Starts a periodic timer interrupt on the calling vCPU, for halt_until_interrupt().
void start_timer_here(uint64_t per_second, uint64_t tsc_hz);
// Sends INIT and SIPI to every other CPU; each takes a vCPU number and calls ap_main.
void start_other_cpus(uint64_t tsc_hz);

}  // namespace godwit::guest
