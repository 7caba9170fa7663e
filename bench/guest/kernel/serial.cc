#include "bench/guest/kernel/serial.h"

#include "bench/guest/kernel/cpu.h"

namespace godwit::guest {
namespace {

constexpr uint16_t kPort = 0x3f8;
constexpr uint16_t kLineStatus = kPort + 5;
constexpr uint8_t kTransmitterEmpty = 0x20;
constexpr unsigned kQueueBytes = 1024;  // a power of two; four status lines

char queue[kQueueBytes];
unsigned head = 0;  // next to send
unsigned tail = 0;  // next free

bool send_one() {
    if ((in8(kLineStatus) & kTransmitterEmpty) == 0) return false;
    out8(kPort, static_cast<uint8_t>(queue[head++ % kQueueBytes]));
    return true;
}

}  // namespace

void serial_start() {
    out8(kPort + 1, 0x00);  // no interrupts
    out8(kPort + 3, 0x80);  // divisor 1: 115200 baud
    out8(kPort + 0, 0x01);
    out8(kPort + 1, 0x00);
    out8(kPort + 3, 0x03);  // 8 bits, no parity, one stop bit
    out8(kPort + 2, 0xc7);  // FIFO on and cleared
}

void serial_queue(const Line& line) {
    if (kQueueBytes - (tail - head) < line.size() + 1) return;
    for (unsigned i = 0; i < line.size(); ++i) queue[tail++ % kQueueBytes] = line.c_str()[i];
    queue[tail++ % kQueueBytes] = '\n';
}

void serial_step() {
    if (head != tail) send_one();
}

void serial_print(const Line& line) {
    serial_queue(line);
    unsigned patience = 100'000;  // port reads, in all: nobody may be reading the other end
    while (head != tail && patience > 0)
        if (!send_one()) --patience;
}

}  // namespace godwit::guest
