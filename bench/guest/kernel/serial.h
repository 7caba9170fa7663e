// COM1. Lines are queued and leave one character per call of serial_step(), so that printing never
// holds up the vCPU that prints: a port access is an exit to QEMU.
#pragma once

#include "bench/guest/kernel/text.h"

namespace godwit::guest {

void serial_start();
// Queues the line and a newline; drops it whole when the queue has no room. First vCPU only.
void serial_queue(const Line& line);
// Sends at most one queued character, none when the port is busy.
void serial_step();
// Sends everything queued, then the line, waiting for the port; gives up after a bounded wait.
void serial_print(const Line& line);

}  // namespace godwit::guest
