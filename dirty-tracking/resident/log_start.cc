#include "dirty-tracking/resident/log_start.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cstdio>

#include "dirty-tracking/resident/discards.h"
#include "dirty-tracking/resident/kvm_log.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/state.h"
#include "dirty-tracking/resident/view.h"

namespace godwit::resident {
namespace {

uint64_t bitmap_bytes(uint64_t page_count) { return (page_count + 63) / 64 * sizeof(uint64_t); }

// More would only be an agent that takes our memory for its own.
constexpr uint64_t kSlackBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxPages = uint64_t{1} << 36;  // 256 TiB

const char* table_error(const StartRequest& request, uint64_t memory_bytes) {
    if (request.block_count > kBlockLimit) return "too many blocks";
    if (request.block_count == 0) return "no blocks";
    uint64_t needed = 0;
    for (uint32_t i = 0; i < request.block_count; ++i) {
        const BlockRow& block = request.blocks[i];
        if (block.page_count == 0 || block.page_count > kMaxPages) return "a block's page count";
        const uint64_t bytes = bitmap_bytes(block.page_count);
        if (block.bitmap_offset % sizeof(uint64_t) != 0 || block.bitmap_offset > memory_bytes ||
            bytes > memory_bytes - block.bitmap_offset)
            return "a bitmap lies outside the memory";
        needed += bytes;
        for (uint32_t j = 0; j < i; ++j)
            if (request.blocks[j].device == block.device && request.blocks[j].inode == block.inode)
                return "a block twice";
    }
    return memory_bytes > needed + kSlackBytes ? "more memory than bitmaps" : nullptr;
}

// A file on tmpfs that can't shrink: no access to it can end in SIGBUS.
const char* memory_error(int memory, uint64_t& bytes) {
    struct stat status {};
    struct statfs system {};
    if (memory < 0 || ::fstat(memory, &status) != 0 || ::fstatfs(memory, &system) != 0)
        return "no memory was sent";
    const int seals = ::fcntl(memory, F_GET_SEALS);
    if (!S_ISREG(status.st_mode) || system.f_type != TMPFS_MAGIC || seals < 0 ||
        (seals & F_SEAL_SHRINK) == 0)
        return "the memory is no memfd that is sealed against shrinking";
    bytes = static_cast<uint64_t>(status.st_size);
    return nullptr;
}

// Populated here, where a failure is an error and no signal.
void* map_memory(int memory, uint64_t bytes) {
    void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (mapped == MAP_FAILED) return nullptr;
    if (next_madvise(mapped, bytes, MADV_POPULATE_WRITE) == 0) {
        next_madvise(mapped, bytes, MADV_DONTFORK);
        return mapped;
    }
    ::munmap(mapped, bytes);
    return nullptr;
}

// Whether all of the block is mapped here: numbers that mean nothing are found before any memory
// is spent on them.
bool is_mapped(uint32_t index) {
    const Log& log = g_state.log;
    uint64_t end = 0;
    for (uint32_t i = 0; i < log.mapping_count; ++i) {
        const Mapping& mapping = log.mappings[i];
        if (mapping.block == index)
            end = std::max(end, mapping.offset + (mapping.end - mapping.begin));
    }
    return end / kPageSize >= log.blocks[index].page_count;
}

const char* fill_table(const StartRequest& request) {
    Log& log = g_state.log;
    log.block_count = request.block_count;
    for (uint32_t i = 0; i < request.block_count; ++i)
        log.blocks[i] = {request.blocks[i].device, request.blocks[i].inode,
                         request.blocks[i].page_count, nullptr};
    if (!find_log_mappings()) return "the blocks are mapped in too many pieces";
    for (uint32_t i = 0; i < request.block_count; ++i)
        if (!is_mapped(i)) return "a block is not mapped by this process";
    return nullptr;
}

Code refuse(Code code, const char* why, char (&text)[kTextBytes]) {
    snprintf(text, sizeof text, "%s", why);
    g_state.log.block_count = g_state.log.mapping_count = 0;
    return code;
}

void begin(const StartRequest& request, void* memory, uint64_t bytes) {
    Log& log = g_state.log;
    log.memory = memory;
    log.bytes = bytes;
    for (uint32_t i = 0; i < request.block_count; ++i)
        log.blocks[i].dirty = reinterpret_cast<uint64_t*>(static_cast<char*>(memory) +
                                                          request.blocks[i].bitmap_offset);
    log.discards_only = (request.flags & kDiscardsOnly) != 0;
    log.on = true;
    if (!log.discards_only) keep_pages_apart(true);
    g_state.watching.store(true);
}

}  // namespace

const char* log_problem() {
    if (g_state.vm < 0) return "the VM does not run under KVM";
    if (g_state.dirty_ring) return "QEMU has switched on KVM's dirty ring";
    if (!g_state.manual_protect)
        return "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is not on: an old kernel or QEMU";
    return g_state.problem[0] != 0 ? g_state.problem : nullptr;
}

Code start_log(const StartRequest& request, int memory, char (&text)[kTextBytes]) {
    stop_log();
    if (!g_state.problem_for_good) g_state.problem[0] = 0;
    const char* why = log_problem();
    if (why != nullptr && (request.flags & kDiscardsOnly) == 0)
        return refuse(Code::kProblem, why, text);
    uint64_t bytes = 0;
    why = memory_error(memory, bytes);
    if (why == nullptr) why = table_error(request, bytes);
    if (why != nullptr) return refuse(Code::kBadMessage, why, text);
    why = fill_table(request);
    if (why != nullptr) return refuse(Code::kProblem, why, text);
    void* mapped = map_memory(memory, bytes);
    if (mapped == nullptr) return refuse(Code::kProblem, "no memory for the bitmaps", text);
    begin(request, mapped, bytes);
    if (g_state.log.discards_only || arm_log()) return Code::kOk;
    return refuse(Code::kProblem, g_state.problem, text);
}

}  // namespace godwit::resident
