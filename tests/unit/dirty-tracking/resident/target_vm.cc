#include "tests/unit/dirty-tracking/resident/target_vm.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

// The guest's code. It ends with a write to a port, which is a KVM_RUN that returns.
//   list:    rsi = addresses, rcx = how many, rbx = value
//   stride:  rdi = address, rdx = step, rcx = how many, rbx = value
//   random:  rdi = address of the first page, rdx = page mask, rcx = how many, rax = seed
extern "C" {
extern const uint8_t godwit_guest_begin[];
extern const uint8_t godwit_guest_stride[];
extern const uint8_t godwit_guest_random[];
extern const uint8_t godwit_guest_end[];
}
asm(R"(
    .pushsection .rodata
godwit_guest_begin:
1:  mov (%rsi), %rax
    add $8, %rsi
    mov %rbx, (%rax)
    dec %rcx
    jnz 1b
    out %al, $0x10
godwit_guest_stride:
2:  mov %rbx, (%rdi)
    add %rdx, %rdi
    dec %rcx
    jnz 2b
    out %al, $0x10
godwit_guest_random:
3:  mov %rax, %r8
    shl $13, %r8
    xor %r8, %rax
    mov %rax, %r8
    shr $7, %r8
    xor %r8, %rax
    mov %rax, %r8
    shl $17, %r8
    xor %r8, %rax
    mov %rax, %r8
    and %rdx, %r8
    shl $12, %r8
    mov %rax, (%rdi,%r8)
    dec %rcx
    jnz 3b
    out %al, $0x10
godwit_guest_end:
    .popsection
)");

namespace godwit {
namespace {

constexpr uint64_t kLevel4 = 0x1000;
constexpr uint64_t kLevel3 = 0x2000;
constexpr uint64_t kLevel2 = 0x10000;  // 64 of them: 64 GiB
constexpr uint64_t kGibibytes = 64;
constexpr uint64_t kCode = 0x60000;
constexpr uint64_t kLists = 0x100000;
constexpr uint64_t kListBytes = 0x380000;  // two of them
constexpr unsigned kVcpuLimit = 2;

constexpr uint64_t kPresentWritable = 0x63;  // accessed and dirty already: the CPU writes nothing
constexpr uint64_t kHuge = 0x80;

// The kernel's header gives its own structure another size in C++ than in C.
struct Cpuid {
    uint32_t count = 256;
    uint32_t padding = 0;
    kvm_cpuid_entry2 entries[256];
};
constexpr unsigned long kGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
constexpr unsigned long kSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);

thread_local kvm_run* t_run = nullptr;

// As QEMU's: the next KVM_RUN returns at once.
void leave_guest(int) {
    if (t_run != nullptr) t_run->immediate_exit = 1;
}

std::string failed(const char* what) { return std::string(what) + ": " + strerrorname_np(errno); }

void make_page_tables(uint8_t* memory) {
    auto* level4 = reinterpret_cast<uint64_t*>(memory + kLevel4);
    auto* level3 = reinterpret_cast<uint64_t*>(memory + kLevel3);
    auto* level2 = reinterpret_cast<uint64_t*>(memory + kLevel2);
    level4[0] = kLevel3 | kPresentWritable;
    for (uint64_t i = 0; i < kGibibytes; ++i) level3[i] = (kLevel2 + i * 4096) | kPresentWritable;
    for (uint64_t i = 0; i < kGibibytes * 512; ++i) level2[i] = i << 21 | kHuge | kPresentWritable;
}

kvm_segment flat_segment(uint8_t type, uint16_t selector) {
    kvm_segment segment{};
    segment.limit = 0xffffffff;
    segment.selector = selector;
    segment.type = type;
    segment.present = 1;
    segment.s = 1;
    segment.g = 1;
    segment.l = type == 11 ? 1 : 0;
    segment.db = type == 11 ? 0 : 1;
    return segment;
}

}  // namespace

std::string TargetVcpu::set_long_mode(int kvm) {
    Cpuid cpuid{};
    if (::ioctl(kvm, kGetSupportedCpuid, &cpuid) != 0) return failed("KVM_GET_SUPPORTED_CPUID");
    if (::ioctl(fd_, kSetCpuid2, &cpuid) != 0) return failed("KVM_SET_CPUID2");
    kvm_sregs registers{};
    if (::ioctl(fd_, KVM_GET_SREGS, &registers) != 0) return failed("KVM_GET_SREGS");
    registers.cs = flat_segment(11, 8);
    registers.ds = registers.es = registers.ss = registers.fs = registers.gs = flat_segment(3, 16);
    registers.cr3 = kLevel4;
    registers.cr4 |= 0x20;            // PAE
    registers.cr0 |= 0x80000001;      // paging, protection
    registers.efer |= 0x100 | 0x400;  // long mode, enabled and active
    if (::ioctl(fd_, KVM_SET_SREGS, &registers) != 0) return failed("KVM_SET_SREGS");
    return "";
}

std::string TargetVcpu::create(int kvm, int vm, unsigned index, uint8_t* boot_memory) {
    fd_ = ::ioctl(vm, KVM_CREATE_VCPU, index);
    if (fd_ < 0) return failed("KVM_CREATE_VCPU");
    const int bytes = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    void* run =
        ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (run == MAP_FAILED) return failed("mmap of kvm_run");
    run_ = static_cast<kvm_run*>(run);
    boot_ = boot_memory;
    list_address_ = kLists + index * kListBytes;
    if (std::string error = set_long_mode(kvm); !error.empty()) return error;
    thread_ = std::thread([this] { serve(); });
    return "";
}

TargetVcpu::~TargetVcpu() {
    if (!thread_.joinable()) return;
    {
        const std::scoped_lock lock(mutex_);
        end_ = true;
        stop_ = true;
    }
    changed_.notify_all();
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
}

std::string TargetVcpu::load(const GuestWork& work) {
    kvm_regs registers{};
    registers.rflags = 2;
    registers.rip = kCode;
    registers.rbx = work.value;
    registers.rcx = work.count;
    registers.rdi = work.first;
    if (work.kind == GuestWork::Kind::kList) {
        if (work.list.empty() || work.list.size() * 8 > kListBytes) return "a list of that length";
        std::memcpy(boot_ + list_address_, work.list.data(), work.list.size() * 8);
        registers.rsi = list_address_;
        registers.rcx = work.list.size();
    } else if (work.kind == GuestWork::Kind::kStride) {
        registers.rip += static_cast<uint64_t>(godwit_guest_stride - godwit_guest_begin);
        registers.rdx = work.step;
    } else {
        registers.rip += static_cast<uint64_t>(godwit_guest_random - godwit_guest_begin);
        registers.rdx = work.page_mask;
        registers.rax = work.value | 1;
    }
    return ::ioctl(fd_, KVM_SET_REGS, &registers) == 0 ? "" : failed("KVM_SET_REGS");
}

std::string TargetVcpu::run_to_end() {
    while (!stop_.load()) {
        const int result = ::ioctl(fd_, KVM_RUN, 0);
        const int error = errno;
        if (result != 0) {
            if (error != EINTR && error != EAGAIN) return failed("KVM_RUN");
            run_->immediate_exit = 0;
            kicked_ = false;
            continue;
        }
        if (run_->exit_reason == KVM_EXIT_IO) return "";
        return "the guest left with reason " + std::to_string(run_->exit_reason) + " at " +
               std::to_string(run_->mmio.phys_addr);
    }
    return "";
}

void TargetVcpu::serve() {
    t_run = run_;
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return busy_ || end_; });
        if (end_) return;
        GuestWork work = work_;
        lock.unlock();
        std::string error;
        do {
            error = load(work);
            if (error.empty()) error = run_to_end();
            work.value = work.value * 6364136223846793005ULL + 1442695040888963407ULL;
            ++pieces_;
        } while (error.empty() && repeat_ && !stop_.load());
        lock.lock();
        error_ = error;
        busy_ = false;
        kicked_ = false;
        changed_.notify_all();
    }
}

std::string TargetVcpu::run(const GuestWork& work) {
    start(work, false);
    return await();
}

void TargetVcpu::start(const GuestWork& work, bool repeat) {
    const std::scoped_lock lock(mutex_);
    if (busy_) return;
    work_ = work;
    repeat_ = repeat;
    stop_ = false;
    busy_ = true;
    changed_.notify_all();
}

std::string TargetVcpu::await() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !busy_; });
    return error_;
}

std::string TargetVcpu::halt() {
    std::unique_lock lock(mutex_);
    stop_ = true;
    while (busy_) {
        pthread_kill(thread_.native_handle(), SIGUSR1);
        changed_.wait_for(lock, std::chrono::milliseconds(5), [this] { return !busy_; });
    }
    return error_;
}

// Once, as QEMU does: what loses it fails the test.
void TargetVcpu::kick() {
    kicked_ = true;
    pthread_kill(thread_.native_handle(), SIGUSR1);
    while (kicked_.load()) std::this_thread::yield();
}

uint64_t TargetVcpu::cpu_time_ns() const {
    clockid_t clock{};
    timespec time{};
    if (pthread_getcpuclockid(const_cast<std::thread&>(thread_).native_handle(), &clock) != 0 ||
        ::clock_gettime(clock, &time) != 0)
        return 0;
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

std::string TargetVm::make_boot_slot() {
    void* memory =
        ::mmap(nullptr, kBootBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return failed("mmap");
    boot_ = static_cast<uint8_t*>(memory);
    make_page_tables(boot_);
    std::memcpy(boot_ + kCode, godwit_guest_begin,
                static_cast<size_t>(godwit_guest_end - godwit_guest_begin));
    kvm_userspace_memory_region region{};
    region.slot = kBootSlot;
    region.memory_size = kBootBytes;
    region.userspace_addr = reinterpret_cast<uint64_t>(memory);
    return ::ioctl(vm_, KVM_SET_USER_MEMORY_REGION, &region) == 0 ? "" : failed("the boot slot");
}

std::string TargetVm::create(const TargetOptions& options) {
    struct sigaction action {};
    action.sa_handler = leave_guest;
    ::sigaction(SIGUSR1, &action, nullptr);
    kvm_ = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm_ < 0) return failed("/dev/kvm");
    vm_ = ::ioctl(kvm_, KVM_CREATE_VM, 0);
    if (vm_ < 0) return failed("KVM_CREATE_VM");
    kvm_enable_cap capability{};
    capability.cap = options.ring ? KVM_CAP_DIRTY_LOG_RING : KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
    capability.args[0] = options.ring ? 65536 : static_cast<uint64_t>(options.manual_protect);
    if (capability.args[0] != 0 && ::ioctl(vm_, KVM_ENABLE_CAP, &capability) != 0)
        return failed("KVM_ENABLE_CAP");
    if (std::string error = make_boot_slot(); !error.empty()) return error;
    vcpus = std::vector<TargetVcpu>(std::min(options.vcpus, kVcpuLimit));
    for (unsigned i = 0; i < vcpus.size(); ++i)
        if (std::string error = vcpus[i].create(kvm_, vm_, i, boot_); !error.empty()) return error;
    return "";
}

}  // namespace godwit
