// Serving faults allocates nothing: this program counts what operator new is asked for.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "engine/postcopy/page_server.h"
#include "tests/unit/engine/postcopy/fault_ram.h"
#include "tests/unit/engine/postcopy/page_content.h"

namespace {

std::atomic<bool> g_counting{false};
std::atomic<uint64_t> g_allocations{0};
thread_local bool t_counts = true;

void* allocate(std::size_t size) {
    if (g_counting && t_counts) ++g_allocations;
    void* memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) std::abort();
    return memory;
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t& /*unused*/) noexcept {
    return allocate(size);
}
void* operator new[](std::size_t size, const std::nothrow_t& /*unused*/) noexcept {
    return allocate(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace godwit {
namespace {

// The whole way of a fault in one thread: asked for, read at the source, placed.
class DirectWay : public Asker, public PageSink {
  public:
    absl::Status ask(BlockIndex block, PageIndex page) override {
        return pages->answer(block, page);
    }
    absl::Status send(const PageAnswer& answer) override {
        return server->place(answer.block, answer.chunk, answer.present, answer.zero, answer.bytes,
                             answer.origin);
    }
    PageServer* pages = nullptr;
    FaultServer* server = nullptr;
};

TEST(FaultPath, AllocatesNothingOnceItServes) {
    if (const std::string reason = why_no_faults(); !reason.empty()) GTEST_SKIP() << reason;
    constexpr Bytes kSize = 2 * kChunkBytes;
    const auto ram = FaultRam::create("tmpfs", "size=64M,huge=always", kSize, 2);
    ASSERT_TRUE(ram.ok()) << ram.status();
    // The RAM of the "source" is on the same mount.
    const auto source = FaultRam::create("tmpfs", "size=64M,huge=always", kSize, 1);
    ASSERT_TRUE(source.ok()) << source.status();
    (*source)->write_content(9);
    auto missing = (*ram)->make_missing();
    ASSERT_TRUE(missing.ok());
    for (const ChunkIndex chunk : {0, 1})
        ASSERT_TRUE((*ram)->make_stale(*missing, chunk, all_pages()).ok());
    PendingPages pending((*source)->blocks);
    pending.add(0, 0, all_pages());
    pending.add(0, 1, some_pages({0, 1, 2, 3, 50, 51}));
    auto server = FaultServer::create(*(*ram)->memory, *missing);
    ASSERT_TRUE(server.ok());
    DirectWay way;
    auto pages = PageServer::create((*source)->blocks, pending, way);
    ASSERT_TRUE(pages.ok());
    way.pages = pages->get();
    way.server = server->get();
    ASSERT_TRUE((*server)->start(FaultMode::kServe).ok());
    (*server)->connection_restored(way);
    std::array<ChunkMask, 2> zero;
    const std::array<std::vector<std::byte>, 2> push{(*ram)->content(9, 0, all_pages(), zero[0]),
                                                     (*ram)->content(9, 1, all_pages(), zero[1])};
    g_counting = true;
    t_counts = false;  // the test's own strings
    ASSERT_EQ((*ram)->guest->ask("play 4 17 9 2000"), "fine");
    t_counts = true;
    while ((*server)->stats().demand_pages < 20) std::this_thread::yield();
    absl::Status status;
    for (const ChunkIndex chunk : {1, 0})
        status.Update(
            (*server)->place(0, chunk, all_pages(), zero[chunk], push[chunk], PageOrigin::kPush));
    g_counting = false;
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(g_allocations, 0u);
    EXPECT_EQ(missing->count(), 0u);
    EXPECT_EQ((*ram)->guest->ask("played"), "fine");
    EXPECT_TRUE((*server)->stop().ok());
}

}  // namespace
}  // namespace godwit
