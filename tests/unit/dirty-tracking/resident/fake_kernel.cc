#include "tests/unit/dirty-tracking/resident/fake_kernel.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "dirty-tracking/resident/next.h"

namespace godwit {
namespace {

int fail(int error) {
    errno = error;
    return -1;
}

// By the rules of Documentation/virt/kvm/api.rst.
int set_region(FakeKernel& kernel, const kvm_userspace_memory_region& region) {
    FakeSlot& slot = kernel.slots[region.slot];
    const bool existed = slot.region.memory_size != 0;
    if (region.memory_size == 0) {
        kernel.slots.erase(region.slot);
        return existed ? 0 : fail(EINVAL);
    }
    if (existed && (region.memory_size != slot.region.memory_size ||
                    region.userspace_addr != slot.region.userspace_addr))
        return fail(EINVAL);
    const bool logged = slot.logs();
    slot.region = region;
    if (!slot.logs()) slot.dirty.clear();
    if (!logged && slot.logs() && kernel.initially_set)
        for (uint64_t page = 0; page < region.memory_size / 4096; ++page) slot.dirty.insert(page);
    return 0;
}

int get_log(FakeKernel& kernel, const kvm_dirty_log& argument) {
    const auto found = kernel.slots.find(argument.slot);
    if (found == kernel.slots.end() || !found->second.logs()) return fail(ENOENT);
    auto* words = static_cast<uint64_t*>(argument.dirty_bitmap);
    const uint64_t page_count = found->second.region.memory_size / 4096;
    std::fill(words, words + (page_count + 63) / 64, 0);
    for (const uint64_t page : found->second.dirty) words[page / 64] |= uint64_t{1} << page % 64;
    return 0;
}

int clear_slot_log(FakeKernel& kernel, const kvm_clear_dirty_log& argument) {
    const auto found = kernel.slots.find(argument.slot);
    if (found == kernel.slots.end() || !found->second.logs()) return fail(ENOENT);
    const uint64_t page_count = found->second.region.memory_size / 4096;
    const uint64_t end = argument.first_page + argument.num_pages;
    if (argument.first_page % 64 != 0 || end > page_count ||
        (argument.num_pages % 64 != 0 && end != page_count))
        return fail(EINVAL);
    ++kernel.clears;
    kernel.longest_clear = std::max<uint64_t>(kernel.longest_clear, argument.num_pages);
    const auto* words = static_cast<const uint64_t*>(argument.dirty_bitmap);
    for (uint64_t page = 0; page < argument.num_pages; ++page)
        if ((words[page / 64] >> page % 64 & 1) != 0)
            found->second.dirty.erase(argument.first_page + page);
    return 0;
}

}  // namespace

void FakeKernel::write(uint32_t slot, uint64_t page) {
    if (slots.at(slot).logs()) slots.at(slot).dirty.insert(page);
}

FakeKernel& fake_kernel() {
    static FakeKernel kernel;
    return kernel;
}

namespace resident {

int next_ioctl(int fd, unsigned long request, void* argument) {
    FakeKernel& kernel = fake_kernel();
    if (_IOC_TYPE(request) == 'f') {
        ++kernel.map_queries;
        return kernel.has_map_queries ? ::ioctl(fd, request, argument) : fail(ENOTTY);
    }
    if (kernel.refuse)
        if (const int error = kernel.refuse(request, argument); error != 0) return fail(error);
    switch (request) {
        case KVM_CREATE_VM:
            return FakeKernel::kVm;
        case KVM_SET_USER_MEMORY_REGION:
        case 0x40a0ae49:  // …_REGION2, which begins alike
            return set_region(kernel, *static_cast<kvm_userspace_memory_region*>(argument));
        case KVM_GET_DIRTY_LOG:
            return get_log(kernel, *static_cast<kvm_dirty_log*>(argument));
        case KVM_CLEAR_DIRTY_LOG:
            return clear_slot_log(kernel, *static_cast<kvm_clear_dirty_log*>(argument));
        default:
            return 0;
    }
}

int next_fallocate(int fd, int mode, off_t offset, off_t length) {
    return ::fallocate(fd, mode, offset, length);
}
int next_madvise(void* address, size_t length, int advice) {
    return ::madvise(address, length, advice);
}
int next_sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
    return ::sigaction(signal, action, old);
}
void find_next_functions() {}

}  // namespace resident
}  // namespace godwit
