// One vCPU's life once the guest runs: write, sweep, tick; the first vCPU also drives the disk and
// the serial port.
#pragma once

#include <cstdint>

#include "bench/guest/kernel/disk_reader.h"
#include "bench/guest/kernel/tsc.h"
#include "bench/guest/kernel/working_set.h"

namespace godwit::guest {

// What all vCPUs share; constant once the guest runs. `disk` belongs to vCPU 0.
struct Machine {
    Config config;
    Mailbox* mailbox = nullptr;
    Counters counters;
    uint64_t tsc_hz = 0;
    DiskReader disk;
};

class alignas(4096) Vcpu {  // a page of its own: vCPUs do not dirty each other's
  public:
    // Takes its share of the working set and fills it, ticking.
    void fill(Machine& machine, unsigned number);
    [[noreturn]] void run();

  private:
    void run_idle_turn();
    void run_busy_turn(uint64_t now);
    void rest();
    void note_pause(uint64_t now);
    void publish();
    void print_status(uint64_t now);

    Machine* machine_ = nullptr;
    MailboxVcpu* box_ = nullptr;
    unsigned number_ = 0;
    WorkingSet pages_;
    Pacer writes_;
    Pacer sweeps_;
    uint64_t tick_ = 0;
    uint64_t last_turn_ = 0;
    uint64_t next_status_ = 0;
    uint64_t pause_ticks_ = 0;  // total of the pauses, in TSC ticks
    uint64_t longest_pause_ticks_ = 0;
};

}  // namespace godwit::guest
