// The guest's start: what the loader left, the command line, memory, the clock, the disk, the other
// vCPUs, the first fill; then every vCPU is in Vcpu::run().
#include "bench/guest/kernel/cpu.h"
#include "bench/guest/kernel/interrupts.h"
#include "bench/guest/kernel/prose.h"
#include "bench/guest/kernel/serial.h"
#include "bench/guest/kernel/user_mode.h"
#include "bench/guest/kernel/vcpu.h"

extern "C" void* memset(void* to, int value, __SIZE_TYPE__ size);

namespace godwit::guest {
namespace {

constexpr uint32_t kMultibootMagic = 0x2badb002;
constexpr unsigned kMaxCommandLine = 1024;
constexpr uint64_t kVcpuStartSeconds = 5;

constinit Machine machine;
constinit MemoryMap memory;
constinit Vcpu vcpus[kMaxVcpus];
char command_line[kMaxCommandLine];
uint32_t vcpus_filled = 0;
uint32_t go = 0;

Mailbox& mailbox() { return *reinterpret_cast<Mailbox*>(kMailboxAddress); }

void set_state(GuestState state) {
    compiler_barrier();
    *const_cast<volatile uint64_t*>(&mailbox().state) = static_cast<uint64_t>(state);
}

[[noreturn]] void stop(GuestState state, const char* what, const char* why) {
    const Line line = Line().text(what).text(why);
    for (unsigned i = 0; i <= line.size(); ++i) mailbox().message[i] = line.c_str()[i];
    set_state(state);
    serial_print(line);
    halt_for_ever();
}

[[noreturn]] void stop_bad_config(const char* why) {
    stop(GuestState::kBadConfig, "bad-config: ", why);
}

void open_mailbox(uint64_t entry_tsc) {
    memset(&mailbox(), 0, kGuestPageBytes);
    mailbox().version = kMailboxVersion;
    mailbox().entry_tsc = entry_tsc;
    set_state(GuestState::kBooting);
    mailbox().magic = kMailboxMagic;
}

// The loader put it after the kernel's image, where nothing may be written before it is copied.
void copy_command_line(uint64_t multiboot_info) {
    const auto* fields = reinterpret_cast<const uint32_t*>(multiboot_info);
    constexpr uint32_t kHasCommandLine = 1u << 2;
    if ((fields[0] & kHasCommandLine) == 0) return;
    const char* from = reinterpret_cast<const char*>(uint64_t{fields[4]});
    for (unsigned i = 0; i + 1 < kMaxCommandLine && from[i] != '\0'; ++i) command_line[i] = from[i];
}

void take_memory() {
    const Config& config = machine.config;
    Mailbox& box = mailbox();
    box.ws_pages = config.ws_bytes / kGuestPageBytes;
    machine.counters.expected = reinterpret_cast<uint32_t*>(memory.allocate(box.ws_pages * 4));
    machine.counters.inverted = reinterpret_cast<uint32_t*>(memory.allocate(box.ws_pages * 4));
    if (machine.counters.expected == nullptr || machine.counters.inverted == nullptr ||
        !memory.place_working_set(box.ws_pages, config.place == Place::kHigh, box))
        stop_bad_config("ws= is larger than the RAM that is left");
    box.counters_address = reinterpret_cast<uint64_t>(machine.counters.expected);
    box.inverted_address = reinterpret_cast<uint64_t>(machine.counters.inverted);
    box.low_ram_end = memory.low_ram_end();
    box.ram_end = memory.ram_end();
}

void wait_until_all_filled() {
    const uint64_t begin = read_tsc();
    uint64_t seen = 0;
    for (;;) {
        if (__atomic_load_n(&vcpus_filled, __ATOMIC_ACQUIRE) >= machine.config.vcpu_count) return;
        // A vCPU that started ticks; the fill itself may take long.
        seen = 1;
        for (uint64_t i = 1; i < machine.config.vcpu_count; ++i)
            if (*const_cast<volatile uint64_t*>(&mailbox().vcpus[i].tick) == 0) seen = 0;
        if (seen == 0 && read_tsc() - begin > kVcpuStartSeconds * machine.tsc_hz)
            stop_bad_config("vcpus= is more than the machine has: a vCPU did not start");
        cpu_pause();
    }
}

void print_start() {
    Line line;
    line.text("godwit guest: ws_pages=").number(mailbox().ws_pages);
    line.text(" first_page=").hex(mailbox().regions[0].address);
    line.text(" vcpus=").number(machine.config.vcpu_count);
    line.text(" tsc_hz=").number(machine.tsc_hz);
    line.text(" low_ram_end=").hex(mailbox().low_ram_end);
    line.text(" ram_end=").hex(mailbox().ram_end);
    serial_print(line);
}

void start(uint64_t multiboot_info, uint64_t entry_tsc) {
    copy_command_line(multiboot_info);
    prepare_interrupts();
    enable_interrupts_here();
    machine.tsc_hz = tsc_hz_by_cpuid();
    enter_user_mode(0);
    const bool has_memory = memory.load(multiboot_info);
    serial_start();
    open_mailbox(entry_tsc);
    if (!has_memory) stop_bad_config("the loader gave no usable memory map");
    Line problem;
    if (!parse_config(command_line, machine.config, problem)) stop_bad_config(problem.c_str());
    machine.mailbox = &mailbox();
    if (machine.tsc_hz == 0) machine.tsc_hz = measure_tsc_hz();
    mailbox().tsc_hz = machine.tsc_hz;
    mailbox().vcpu_count = machine.config.vcpu_count;
    if (!machine.disk.start(machine.config, memory, mailbox(), problem))
        stop_bad_config(problem.c_str());
    if (problem.size() > 0 && machine.config.disk == DiskUse::kAuto) serial_print(problem);
    take_memory();
    write_prose(machine.config.seed);
    print_start();
}

void fill_and_run(unsigned number) {
    vcpus[number].fill(machine, number);
    __atomic_fetch_add(&vcpus_filled, 1, __ATOMIC_ACQ_REL);
    if (number == 0) {
        wait_until_all_filled();
        mailbox().running_tsc = read_tsc();
        set_state(GuestState::kRunning);
        serial_print(Line().text("running"));
        __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&go, __ATOMIC_ACQUIRE) == 0) cpu_pause();
    vcpus[number].run();
}

}  // namespace

extern "C" void kernel_main(uint32_t magic, uint32_t multiboot_info) {
    const uint64_t entry_tsc = read_tsc();
    if (magic != kMultibootMagic) return;  // boot.S halts
    start(multiboot_info, entry_tsc);
    if (machine.config.vcpu_count > 1) start_other_cpus(machine.tsc_hz);
    fill_and_run(0);
}

extern "C" void ap_main(uint32_t number) {
    if (number >= machine.config.vcpu_count) return;  // boot.S halts
    enable_interrupts_here();
    enter_user_mode(number);
    fill_and_run(number);
}

extern "C" [[noreturn]] void exception_main(uint64_t vector, uint64_t error_code, uint64_t rip,
                                            uint64_t fault_address) {
    Line line;
    line.number(vector).text(" error=").hex(error_code).text(" rip=").hex(rip);
    line.text(" cr2=").hex(fault_address);
    stop(GuestState::kCrashed, "crashed: CPU exception ", line.c_str());
}

}  // namespace godwit::guest
