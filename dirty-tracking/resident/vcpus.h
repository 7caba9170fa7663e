// vCPUs: followed from KVM_CREATE_VCPU on, and held back in front of KVM_RUN when the agent asks.
#pragma once

#include <cstdint>

namespace godwit::resident {

// QEMU's calls.
int create_vcpu(int vm, unsigned long request, void* argument);
int run_vcpu(int fd, unsigned long request, void* argument);

// Each period begins with `held_percent` of it in which no vCPU enters the guest. 0: every vCPU
// goes on at once.
void set_throttle(uint32_t held_percent, uint32_t period_ms);
uint32_t throttle_percent();

// Makes vCPUs that are inside the guest in the held part of a period leave it. Returns the
// milliseconds until it wants to be called again, or -1.
int kick_vcpus();

uint64_t hold_count();
uint64_t kick_count();

// Once, in the constructor. False: no throttle.
bool prepare_throttle();

// Under the lock.
void forget_vcpus();

}  // namespace godwit::resident
