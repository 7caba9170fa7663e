#include "bench/guest/kernel/vcpu.h"

#include "bench/guest/kernel/cpu.h"
#include "bench/guest/kernel/interrupts.h"
#include "bench/guest/kernel/serial.h"

namespace godwit::guest {
namespace {

// Pages per turn: under 50 us a turn even under TCG, so that the tick stays fine-grained.
constexpr unsigned kWritesPerTurn = 4;
constexpr unsigned kSweepsPerTurn = 2;
constexpr unsigned kSweepsPerIdleTurn = 16;
constexpr uint64_t kIdleTurnsPerSecond = 100;
// Of a vCPU that rests halted: what falls due meanwhile is far below what a pacer hands out at
// once.
constexpr uint64_t kWakesPerSecond = 1000;
constexpr unsigned kSerialPerIdleTurn = 8;
constexpr uint64_t kPauseUs = 200;

// The part of a total rate that falls to one vCPU.
uint64_t share(uint64_t rate, uint64_t number, uint64_t count) {
    return rate * (number + 1) / count - rate * number / count;
}

}  // namespace

void Vcpu::fill(Machine& machine, unsigned number) {
    machine_ = &machine;
    number_ = number;
    box_ = &machine.mailbox->vcpus[number];
    pages_.start(machine.config, *machine.mailbox, machine.counters, number);
    box_->first_page = pages_.first();
    box_->page_count = pages_.count();
    box_->first_bad_page = kNoPage;
    for (uint64_t i = 0; i < pages_.count(); ++i) {
        pages_.fill(i);
        box_->tick = ++tick_;
        compiler_barrier();
    }
}

void Vcpu::run() {
    const Config& config = machine_->config;
    const uint64_t hz = machine_->tsc_hz;
    last_turn_ = read_tsc();
    next_status_ = last_turn_ + hz;
    writes_.start(share(config.rate, number_, config.vcpu_count), hz, last_turn_);
    if (config.sweep_rate != kUnlimited)
        sweeps_.start(share(config.sweep_rate, number_, config.vcpu_count), hz, last_turn_);
    if (number_ == 0) machine_->disk.start_pace(hz, last_turn_);
    if (config.idle)
        start_timer_here(kIdleTurnsPerSecond, hz);
    else if (config.rest == Rest::kHalt)
        start_timer_here(kWakesPerSecond, hz);
    for (;;) {
        const uint64_t now = read_tsc();
        if (config.idle)
            run_idle_turn();
        else
            run_busy_turn(now);
        if (number_ == 0) {
            if (machine_->disk.active()) machine_->disk.step(now);
            print_status(now);
            const unsigned steps = config.idle ? kSerialPerIdleTurn : 1;
            for (unsigned i = 0; i < steps; ++i) serial_step();
        }
        publish();
        compiler_barrier();
    }
}

void Vcpu::run_idle_turn() {
    halt_until_interrupt();
    const bool limited = machine_->config.sweep_rate != kUnlimited;
    const unsigned count =
        limited ? sweeps_.take(read_tsc(), kSweepsPerIdleTurn) : kSweepsPerIdleTurn;
    for (unsigned i = 0; i < count; ++i) pages_.sweep_next();
}

void Vcpu::run_busy_turn(uint64_t now) {
    note_pause(now);
    const Config& config = machine_->config;
    const unsigned due =
        config.rate == kFlatOut ? kWritesPerTurn : writes_.take(now, kWritesPerTurn);
    for (unsigned i = 0; i < due; ++i) pages_.write_next();
    // One page swept for two written, and as many when there was nothing to write.
    const unsigned sweeps =
        config.sweep_rate == kUnlimited ? kSweepsPerTurn : sweeps_.take(now, kSweepsPerTurn);
    for (unsigned i = 0; i < sweeps; ++i) pages_.sweep_next();
    if (sweeps == 0 && due == 0) rest();
}

void Vcpu::rest() {
    if (machine_->config.rest == Rest::kSpin) {
        cpu_pause();
        return;
    }
    halt_until_interrupt();
    last_turn_ = read_tsc();  // its own rest is no pause
}

void Vcpu::note_pause(uint64_t now) {
    const auto gap = static_cast<int64_t>(now - last_turn_);
    last_turn_ = now;
    const uint64_t per_us = machine_->tsc_hz / 1'000'000;
    if (gap <= static_cast<int64_t>(kPauseUs * per_us)) return;
    const auto pause = static_cast<uint64_t>(gap);
    pause_ticks_ += pause;
    box_->pause_count = box_->pause_count + 1;
    box_->pauses_us = pause_ticks_ / per_us;
    if (pause <= longest_pause_ticks_) return;
    longest_pause_ticks_ = pause;
    box_->longest_pause_us = pause / per_us;
}

void Vcpu::publish() {
    box_->writes = pages_.writes();
    box_->checked = pages_.checked();
    box_->sweeps = pages_.sweeps();
    if (pages_.errors() != box_->errors) {
        box_->first_bad_page = pages_.first_bad_page();
        box_->first_bad_kind = static_cast<uint64_t>(pages_.first_bad_kind());
        compiler_barrier();  // whoever sees the count sees the page
        box_->errors = pages_.errors();
    }
    box_->tick = ++tick_;
}

void Vcpu::print_status(uint64_t now) {
    if (static_cast<int64_t>(now - next_status_) < 0) return;
    next_status_ = now + machine_->tsc_hz;
    const Mailbox& mailbox = *machine_->mailbox;
    uint64_t writes = 0, checked = 0, errors = 0;
    for (uint64_t i = 0; i < mailbox.vcpu_count; ++i) {
        writes += mailbox.vcpus[i].writes;
        checked += mailbox.vcpus[i].checked;
        errors += mailbox.vcpus[i].errors;
    }
    Line line;
    line.text("seconds=").number((now - mailbox.running_tsc) / machine_->tsc_hz);
    line.text(" tick=").number(tick_).text(" writes=").number(writes);
    line.text(" checked=").number(checked).text(" errors=").number(errors);
    if (machine_->disk.active()) {
        line.text(" disk_reads=").number(mailbox.disk.reads);
        line.text(" disk_errors=").number(mailbox.disk.errors);
    }
    serial_queue(line);
}

}  // namespace godwit::guest
