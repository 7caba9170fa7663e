// A virtual machine of a few bytes of 64-bit code that writes pages as it is told. Made with plain
// ioctl() calls, so that a preloaded library sees them as it sees QEMU's.
#pragma once

#include <linux/kvm.h>
#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace godwit {

// What a vCPU does with its registers' values.
struct GuestWork {
    enum class Kind { kList, kStride, kRandom } kind = Kind::kList;
    std::vector<uint64_t> list;  // kList: guest addresses, one word is written to each
    uint64_t first = 0;          // kStride: guest address; kRandom: of its first page
    uint64_t step = 0;           // kStride: bytes
    uint64_t count = 0;          // kStride, kRandom: writes
    uint64_t page_mask = 0;      // kRandom: pages - 1, pages being a power of two
    uint64_t value = 0;          // what is written; kRandom: the seed
};

// A vCPU and its thread, which runs one piece of work at a time, or one again and again.
class TargetVcpu {
  public:
    // "" or what went wrong.
    std::string create(int kvm, int vm, unsigned index, uint8_t* boot_memory);
    // Runs the work once, to its end.
    std::string run(const GuestWork& work);
    // Begins the work, or to repeat it; halt() ends it, await() waits until it is done.
    void start(const GuestWork& work, bool repeat = true);
    std::string await();
    std::string halt();
    // Makes it leave the guest as QEMU does, and waits until it has.
    void kick();

    [[nodiscard]] uint64_t cpu_time_ns() const;
    [[nodiscard]] uint64_t pieces() const { return pieces_.load(); }
    [[nodiscard]] int fd() const { return fd_; }
    ~TargetVcpu();

  private:
    void serve();
    std::string load(const GuestWork& work);
    // One KVM_RUN after the other, until the work is done or it is halted.
    std::string run_to_end();
    std::string set_long_mode(int kvm);

    int fd_ = -1;
    kvm_run* run_ = nullptr;
    uint8_t* boot_ = nullptr;
    uint64_t list_address_ = 0;
    std::thread thread_;
    std::mutex mutex_;
    std::condition_variable changed_;
    GuestWork work_;
    bool busy_ = false;
    bool repeat_ = false;
    bool end_ = false;
    std::string error_;
    std::atomic<bool> stop_{false};
    std::atomic<bool> kicked_{false};
    std::atomic<uint64_t> pieces_{0};  // of work done
};

struct TargetOptions {
    int manual_protect = 3;  // KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2's flags; 0: not switched on
    unsigned vcpus = 1;
    bool ring = false;
};

class TargetVm {
  public:
    // "" or what went wrong.
    std::string create(const TargetOptions& options);
    std::vector<TargetVcpu> vcpus;
    [[nodiscard]] int fd() const { return vm_; }

    // The slot with code, page tables and lists; guest addresses below kBootBytes are its own.
    static constexpr uint32_t kBootSlot = 500;
    static constexpr uint64_t kBootBytes = uint64_t{8} << 20;

  private:
    std::string make_boot_slot();
    int kvm_ = -1;
    int vm_ = -1;
    uint8_t* boot_ = nullptr;
};

}  // namespace godwit
