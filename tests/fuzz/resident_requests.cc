// The resident's side of its socket: messages of three connections, with descriptors that fit or
// not, over the kernel that the unit tests play. QEMU is the process that such a message would
// kill.
#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "dirty-tracking/resident/answers.h"
#include "dirty-tracking/resident/slots.h"
#include "dirty-tracking/resident/vcpus.h"
#include "dirty-tracking/resident/vm.h"
#include "engine/base/check.h"
#include "engine/base/unique_fd.h"
#include "tests/fuzz/target.h"
#include "tests/unit/dirty-tracking/resident/fake_kernel.h"

namespace godwit::resident {
namespace {

constexpr uint64_t kRamPages = 96;
constexpr uint64_t kRamBytes = kRamPages * kPageSize;
constexpr int kClients = kConnectionLimit;

UniqueFd make_memory(const char* name, off_t bytes, int seals) {
    UniqueFd memory(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    GODWIT_CHECK(memory.valid() && ::ftruncate(memory.get(), bytes) == 0);
    GODWIT_CHECK(::fcntl(memory.get(), F_ADD_SEALS, seals) == 0);
    return memory;
}

struct Qemu {
    UniqueFd ram = make_memory("ram", kRamBytes, 0);
    UniqueFd good = make_memory("good", kPageSize, F_SEAL_SHRINK);
    UniqueFd unsealed = make_memory("unsealed", kPageSize, 0);
    UniqueFd empty = make_memory("empty", 0, F_SEAL_SHRINK);
    char* view = static_cast<char*>(
        ::mmap(nullptr, kRamBytes, PROT_READ | PROT_WRITE, MAP_SHARED, ram.get(), 0));
    struct stat status {};

    Qemu() {
        GODWIT_CHECK(view != MAP_FAILED && ::fstat(ram.get(), &status) == 0);
        create_vm(3, KVM_CREATE_VM, nullptr);
        kvm_enable_cap capability{};
        capability.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
        capability.args[0] = 3;
        GODWIT_CHECK(enable_capability(FakeKernel::kVm, KVM_ENABLE_CAP, &capability) == 0);
    }
    [[nodiscard]] int memory(uint8_t which) const {
        const std::array<int, 4> all{good.get(), unsealed.get(), empty.get(), -1};
        return all[which % all.size()];
    }
    // QEMU's call; what the kernel answers is its own business.
    void set_slot(uint32_t id, uint64_t first_page, uint64_t page_count, uint32_t flags) const {
        kvm_userspace_memory_region region{};
        region.slot = id;
        region.flags = flags;
        region.guest_phys_addr = first_page * kPageSize;
        region.memory_size = page_count * kPageSize;
        region.userspace_addr = reinterpret_cast<uint64_t>(view) + first_page * kPageSize;
        set_memory_region(FakeKernel::kVm, KVM_SET_USER_MEMORY_REGION, &region);
    }
};

const Qemu& qemu() {
    static const Qemu one;
    return one;
}

// Where a request would name what it can't know: the RAM file's device and inode.
void name_the_ram(Message& message, size_t length) {
    StartRequest& start = message.start;
    if (length != sizeof start || start.header.kind != Kind::kStart) return;
    for (BlockRow& block : start.blocks) {
        if (block.device != 0) continue;
        block.device = qemu().status.st_dev;
        block.inode = qemu().status.st_ino;
    }
}

// As the server does it; what lies behind the message must not be read.
void ask(int client, int memory, std::span<const std::byte> bytes, bool stamped) {
    static Message request;
    static Message reply;
    const size_t length = std::min(bytes.size(), sizeof request);
    ASAN_UNPOISON_MEMORY_REGION(&request, sizeof request);
    std::memcpy(static_cast<void*>(&request), bytes.data(), length);
    if (stamped && length >= sizeof(Header)) {
        request.header.magic = kMagic;
        request.header.version = kProtocolVersion;
        request.header.length = static_cast<uint32_t>(length);
        name_the_ram(request, length);
    }
    auto* end = reinterpret_cast<char*>(&request) + length;
    ASAN_POISON_MEMORY_REGION(end, sizeof request - length);
    const bool keep = answer(request, length, memory, client, reply);
    ASAN_UNPOISON_MEMORY_REGION(end, sizeof request - length);
    GODWIT_CHECK(reply.header.magic == kMagic && reply.header.version == kProtocolVersion);
    GODWIT_CHECK(reply.header.length >= sizeof(Reply) && reply.header.length <= sizeof reply);
    GODWIT_CHECK(::memchr(reply.reply.text, 0, sizeof reply.reply.text) != nullptr);
    if (reply.header.kind == Kind::kViews)
        GODWIT_CHECK(reply.views.count <= kRowLimit && reply.views.count <= reply.views.total);
    if (reply.header.kind == Kind::kSlots)
        GODWIT_CHECK(reply.slots.count <= kRowLimit && reply.slots.count <= reply.slots.total);
    if (!keep) let_go(client);
}

// Each slot costs a look at /proc/self/maps: they are made anew only after they were changed.
bool g_slots_fresh = false;

void act(FuzzInputReader& input) {
    const uint8_t what = input.u8();
    if (what >= 0xf0) {  // QEMU changes a slot, or a vCPU writes
        const uint64_t first = input.u8() % kRamPages;
        const uint64_t count = input.u8() % (kRamPages - first + 1);
        const uint32_t flags = what % 2 == 0 ? 0 : KVM_MEM_LOG_DIRTY_PAGES;
        g_slots_fresh = g_slots_fresh && what >= 0xf8;
        if (what < 0xf8) return qemu().set_slot(what % 4, first, count, flags);
        if (fake_kernel().slots.contains(1)) fake_kernel().write(1, first % 32);
        return;
    }
    const int client = what % kClients;
    const int memory = qemu().memory(what / 4);
    const size_t length = input.u16();
    ask(client, memory, input.bytes(length), (what & 0x80) == 0);
}

void begin() {
    if (g_slots_fresh) return;
    {
        const Guard guard(g_state.lock);
        forget_slots();
    }
    fake_kernel().slots.clear();
    qemu().set_slot(1, 0, 32, 0);
    qemu().set_slot(2, 32, 64, KVM_MEM_LOG_DIRTY_PAGES);
    g_slots_fresh = true;
}

void end() {
    for (int client = 0; client < kClients; ++client) let_go(client);
    GODWIT_CHECK(!g_state.log.on && throttle_percent() == 0);
}

}  // namespace
}  // namespace godwit::resident

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit::resident;
    (void)qemu();
    begin();
    godwit::FuzzInputReader input(data, size);
    for (int step = 0; step < 16 && !input.empty(); ++step) act(input);
    end();
    return 0;
}
