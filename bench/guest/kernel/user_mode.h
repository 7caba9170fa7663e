// Ring 3 for everything after the first steps. Hardware does not care, but a software-assisted KVM
// (one inside a VM without nested virtualisation) interprets ring 0 code instruction by
// instruction, at about a million a second, and runs ring 3 code on the CPU itself.
#pragma once

namespace godwit::guest {

// The caller goes on in ring 3 with all memory and all I/O ports at hand; control registers are out
// of reach, and halting is by halt_until_interrupt() (cpu.h). Interrupts enter ring 0 on a stack of
// their own. After enable_interrupts_here().
void enter_user_mode(unsigned vcpu);

}  // namespace godwit::guest
