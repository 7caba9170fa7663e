// The resident's rules under a kernel that refuses: QEMU sees what it would have seen without us,
// and what can't be logged any more is said.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "dirty-tracking/resident/kvm_log.h"
#include "dirty-tracking/resident/log_start.h"
#include "dirty-tracking/resident/qemu_log.h"
#include "dirty-tracking/resident/shared_bitmaps.h"
#include "dirty-tracking/resident/slots.h"
#include "dirty-tracking/resident/vm.h"
#include "engine/base/units.h"
#include "tests/unit/dirty-tracking/resident/fake_kernel.h"

namespace godwit::resident {
namespace {

constexpr uint64_t kPages = 100'000;  // more than one window
constexpr uint64_t kBytes = kPages * kPageBytes;
constexpr unsigned long kRegion2 = 0x40a0ae49;

class ResidentKernel : public testing::Test {
  protected:
    void SetUp() override {
        fake_kernel() = FakeKernel{};
        create_vm(3, KVM_CREATE_VM, nullptr);
        let_logs_begin_full(true);
        ram_ = UniqueFd(::memfd_create("ram", MFD_CLOEXEC));
        ASSERT_EQ(::ftruncate(ram_.get(), kBytes), 0);
        qemu_view_ = static_cast<char*>(
            ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, ram_.get(), 0));
        ASSERT_NE(qemu_view_, MAP_FAILED);
    }
    void TearDown() override {
        const Guard guard(g_state.lock);
        forget_slots();
        ::munmap(qemu_view_, kBytes);
    }

    static void let_logs_begin_full(bool full) {
        fake_kernel().initially_set = full;
        kvm_enable_cap capability{};
        capability.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
        capability.args[0] = full ? 3 : 1;
        EXPECT_EQ(enable_capability(FakeKernel::kVm, KVM_ENABLE_CAP, &capability), 0);
    }
    // What QEMU sees of a slot's log; the call must succeed.
    static std::set<uint64_t> seen_by_qemu(uint32_t id) {
        std::vector<uint64_t> words((kPages + 63) / 64);
        kvm_dirty_log get{};
        get.slot = id;
        get.dirty_bitmap = words.data();
        EXPECT_EQ(get_dirty_log(FakeKernel::kVm, KVM_GET_DIRTY_LOG, &get), 0) << errno;
        std::set<uint64_t> pages;
        for (uint64_t page = 0; page < kPages; ++page)
            if ((words[page / 64] >> page % 64 & 1) != 0) pages.insert(page);
        return pages;
    }

    // QEMU's call: 0, or errno.
    int set(uint32_t id, uint64_t first_page, uint64_t page_count, uint32_t flags = 0,
            uint64_t guest_address = 0) {
        kvm_userspace_memory_region region{};
        region.slot = id;
        region.flags = flags;
        region.guest_phys_addr = guest_address;
        region.memory_size = page_count * kPageBytes;
        region.userspace_addr = reinterpret_cast<uint64_t>(qemu_view_) + first_page * kPageBytes;
        const int result = set_memory_region(FakeKernel::kVm, KVM_SET_USER_MEMORY_REGION, &region);
        return result == 0 ? 0 : errno;
    }
    Code start() {
        struct stat status {};
        EXPECT_EQ(::fstat(ram_.get(), &status), 0);
        auto bitmaps = SharedBitmaps::create(std::array{kPages});
        EXPECT_TRUE(bitmaps.ok());
        bitmaps_ = *std::move(bitmaps);
        StartRequest request{};
        request.block_count = 1;
        request.blocks[0] = {status.st_dev, status.st_ino, kPages, bitmaps_.offset(0)};
        char text[kTextBytes] = {};
        const Guard guard(g_state.lock);
        const Code code = start_log(request, bitmaps_.memory(), text);
        EXPECT_EQ(code == Code::kOk, text[0] == 0);
        return code;
    }
    bool collect() {
        const Guard guard(g_state.lock);
        return g_state.log.on && collect_log();
    }
    bool clear(uint64_t begin, uint64_t end) {
        const Guard guard(g_state.lock);
        return clear_log(0, begin, end);
    }
    std::set<uint64_t> taken() {
        PageSet dirty{PageBitmap(kPages)};
        EXPECT_TRUE(bitmaps_.take(dirty).ok());
        std::set<uint64_t> pages;
        for (PageIndex page = dirty[0].next_set(0); page < kPages;
             page = dirty[0].next_set(page + 1))
            pages.insert(page);
        return pages;
    }
    static void refuse(std::function<bool(unsigned long, const void*)> which, int error) {
        fake_kernel().refuse = [which = std::move(which), error](unsigned long request,
                                                                 const void* argument) {
            return which(request, argument) ? error : 0;
        };
    }
    static const kvm_userspace_memory_region& region_of(const void* argument) {
        return *static_cast<const kvm_userspace_memory_region*>(argument);
    }
    [[nodiscard]] uint64_t own_address() const { return reinterpret_cast<uint64_t>(qemu_view_); }

    UniqueFd ram_;
    char* qemu_view_ = nullptr;
    SharedBitmaps bitmaps_;
};

TEST_F(ResidentKernel, IsGivenTheSecondViewOnceForAll) {
    EXPECT_EQ(set(1, 0, 500), 0);
    EXPECT_EQ(set(2, 600, 500), 0);
    const uint64_t first = fake_kernel().slots.at(1).region.userspace_addr;
    EXPECT_NE(first, own_address());
    EXPECT_EQ(fake_kernel().slots.at(2).region.userspace_addr, first + 600 * kPageBytes);
    EXPECT_EQ(first % kChunkBytes, 0u);
}

// With PROCMAP_QUERY and without: the same views stand, the same fall.
class ResidentMaps : public ResidentKernel, public testing::WithParamInterface<bool> {
  protected:
    void SetUp() override {
        ResidentKernel::SetUp();
        fake_kernel().has_map_queries = GetParam();
    }
    static uint64_t views() {
        const Guard guard(g_state.lock);
        return std::count_if(std::begin(g_state.views), std::end(g_state.views),
                             [](const View& view) { return view.length.load() != 0; });
    }
    static uint64_t kernel_address(uint32_t id) {
        return fake_kernel().slots.at(id).region.userspace_addr;
    }
};

TEST_P(ResidentMaps, AViewServesEverySlotOfItsMapping) {
    ASSERT_EQ(set(1, 0, 1000), 0);
    const uint64_t first = kernel_address(1);
    EXPECT_NE(first, own_address());
    const uint64_t asked = fake_kernel().map_queries;
    ASSERT_EQ(set(2, 5000, 1000), 0);
    EXPECT_EQ(kernel_address(2), first + 5000 * kPageBytes);
    EXPECT_EQ(views(), 1U);
    // The view's mapping and the slot's own, not the hundreds of a process.
    EXPECT_LE(fake_kernel().map_queries - asked, 2U);
}

TEST_P(ResidentMaps, AMappingInPiecesIsStillTheViews) {
    ASSERT_EQ(set(1, 0, 1000), 0);
    const uint64_t first = kernel_address(1);
    ASSERT_EQ(::madvise(qemu_view_ + 700 * kPageBytes, 100 * kPageBytes, MADV_DONTFORK), 0);
    ASSERT_EQ(set(2, 5000, 1000), 0);
    EXPECT_EQ(kernel_address(2), first + 5000 * kPageBytes);
    EXPECT_EQ(views(), 1U);
}

TEST_P(ResidentMaps, AViewWhoseMappingIsGoneFallsAtTheNextSlot) {
    ASSERT_EQ(set(1, 0, 1000), 0);
    ASSERT_EQ(set(1, 0, 0), 0);
    ASSERT_EQ(views(), 1U);
    // Something else is there now.
    ASSERT_NE(::mmap(qemu_view_, kBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              MAP_FAILED);
    ASSERT_EQ(set(2, 0, 1000), 0);
    EXPECT_EQ(kernel_address(2), own_address()) << "private memory is nobody's view";
    EXPECT_EQ(views(), 0U);
}

TEST_P(ResidentMaps, WhatIsNotMappedAtAllIsQemusOwn) {
    ASSERT_EQ(set(1, 0, 1000), 0);
    ASSERT_EQ(set(1, 0, 0), 0);
    ASSERT_EQ(::munmap(qemu_view_, kBytes), 0);
    ASSERT_EQ(set(2, 0, 1000), 0);
    EXPECT_EQ(kernel_address(2), own_address());
    EXPECT_EQ(views(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Kernels, ResidentMaps, testing::Bool(), [](const auto& with_queries) {
    return with_queries.param ? "WithQueries" : "WithoutQueries";
});

TEST_F(ResidentKernel, ClearsInBoundedSteps) {
    EXPECT_EQ(set(1, 37, kPages - 37), 0);
    EXPECT_EQ(start(), Code::kOk);
    EXPECT_TRUE(fake_kernel().slots.at(1).dirty.empty());
    EXPECT_GE(fake_kernel().clears, kPages / 16'384);
    EXPECT_LE(fake_kernel().longest_clear, 16'384u);  // 64 MiB
    fake_kernel().clears = 0;
    fake_kernel().write(1, 70'000);
    fake_kernel().write(1, 70'100);
    EXPECT_TRUE(collect());
    EXPECT_TRUE(clear(0, kPages));
    EXPECT_EQ(fake_kernel().clears, 1u);
    EXPECT_EQ(taken(), (std::set<uint64_t>{70'037, 70'137}));
}

TEST_F(ResidentKernel, FollowsTheSecondAddressSpace) {
    EXPECT_EQ(set(1, 0, 500), 0);
    EXPECT_EQ(set(0x10001, 100, 800), 0);
    EXPECT_EQ(start(), Code::kOk);
    fake_kernel().write(1, 7);
    fake_kernel().write(0x10001, 7);
    EXPECT_TRUE(collect());
    EXPECT_EQ(taken(), (std::set<uint64_t>{7, 107}));
    EXPECT_TRUE(clear(0, 200));
    EXPECT_TRUE(fake_kernel().slots.at(1).dirty.empty());
    EXPECT_TRUE(fake_kernel().slots.at(0x10001).dirty.empty());
}

TEST_F(ResidentKernel, ThatRefusesTheSecondViewGetsQemusOwn) {
    refuse(
        [this](unsigned long request, const void* argument) {
            return request == KVM_SET_USER_MEMORY_REGION &&
                   region_of(argument).userspace_addr != own_address();
        },
        ENOMEM);
    EXPECT_EQ(set(1, 0, 500), 0);
    EXPECT_EQ(fake_kernel().slots.at(1).region.userspace_addr, own_address());
    EXPECT_EQ(find_slot(1)->kind, SlotKind::kRefused);
    EXPECT_EQ(start(), Code::kOk);
    EXPECT_FALSE(fake_kernel().slots.at(1).logs());
    EXPECT_EQ(set(1, 0, 500, KVM_MEM_LOG_DIRTY_PAGES), 0);
    EXPECT_EQ(set(1, 0, 0), 0);
}

TEST_F(ResidentKernel, ThatRefusesASlotIsHeardByQemu) {
    refuse([](unsigned long, const void*) { return true; }, EEXIST);
    EXPECT_EQ(set(1, 0, 500), EEXIST);
    EXPECT_EQ(find_slot(1), nullptr);
    fake_kernel().refuse = nullptr;
    EXPECT_EQ(set(1, 0, 500), 0);
    refuse([](unsigned long, const void*) { return true; }, EBUSY);
    EXPECT_EQ(set(1, 0, 0), EBUSY);
    EXPECT_NE(find_slot(1), nullptr);
    EXPECT_EQ(set(1, 0, 500, KVM_MEM_LOG_DIRTY_PAGES), EBUSY);
    EXPECT_FALSE(find_slot(1)->logged_by_qemu());
}

TEST_F(ResidentKernel, ThatRefusesTheLogEndsIt) {
    EXPECT_EQ(set(1, 0, 500), 0);
    refuse(
        [](unsigned long request, const void* argument) {
            return request == KVM_SET_USER_MEMORY_REGION && region_of(argument).flags != 0;
        },
        ENOMEM);
    EXPECT_EQ(start(), Code::kProblem);
    EXPECT_NE(std::strstr(g_state.problem, "slot 1"), nullptr) << g_state.problem;
    fake_kernel().refuse = nullptr;
    EXPECT_EQ(start(), Code::kOk);
    // A move, with the log on.
    refuse(
        [](unsigned long request, const void* argument) {
            return request == KVM_SET_USER_MEMORY_REGION && region_of(argument).flags != 0;
        },
        ENOMEM);
    EXPECT_EQ(set(1, 0, 500, 0, 0x10000), 0);
    EXPECT_EQ(fake_kernel().slots.at(1).region.guest_phys_addr, 0x10000u);
    EXPECT_FALSE(fake_kernel().slots.at(1).logs());
    EXPECT_FALSE(collect());
    EXPECT_NE(g_state.problem[0], 0);
}

TEST_F(ResidentKernel, ThatFailsToReadOrClearEndsTheLog) {
    for (const unsigned long failing : {KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG}) {
        EXPECT_EQ(set(1, 0, 500), 0);
        EXPECT_EQ(set(2, 500, 500), 0);
        EXPECT_EQ(start(), Code::kOk);
        fake_kernel().write(1, 1);
        refuse([failing](unsigned long request, const void*) { return request == failing; },
               EFAULT);
        EXPECT_FALSE(collect() && clear(0, kPages));
        EXPECT_NE(g_state.problem[0], 0);
        EXPECT_FALSE(fake_kernel().slots.at(1).logs());
        EXPECT_FALSE(fake_kernel().slots.at(2).logs());
        fake_kernel().refuse = nullptr;
        EXPECT_EQ(start(), Code::kOk);
        EXPECT_EQ(set(1, 0, 0), 0);
        EXPECT_EQ(set(2, 0, 0), 0);
    }
}

// QEMU switches its log on beside ours, which has to be emptied first and can't be.
TEST_F(ResidentKernel, ThatFailsToHandTheLogOverStillLogsForQemu) {
    let_logs_begin_full(false);
    for (const unsigned long failing : {KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG}) {
        EXPECT_EQ(set(1, 0, 500), 0);
        EXPECT_EQ(start(), Code::kOk);
        fake_kernel().write(1, 5);
        refuse([failing](unsigned long request, const void*) { return request == failing; },
               EFAULT);
        EXPECT_EQ(set(1, 0, 500, KVM_MEM_LOG_DIRTY_PAGES), 0);
        EXPECT_FALSE(g_state.log.on);
        EXPECT_NE(g_state.problem[0], 0);
        fake_kernel().refuse = nullptr;
        EXPECT_EQ(seen_by_qemu(1), std::set<uint64_t>{});
        fake_kernel().write(1, 6);
        EXPECT_EQ(seen_by_qemu(1), std::set<uint64_t>{6});
        EXPECT_EQ(set(1, 0, 0), 0);
    }
}

TEST_F(ResidentKernel, LeavesGuestMemfdToQemu) {
    struct {
        kvm_userspace_memory_region region;
        uint64_t rest[16];
    } argument{};
    argument.region.slot = 1;
    argument.region.flags = 4;
    argument.region.memory_size = 500 * kPageBytes;
    argument.region.userspace_addr = own_address();
    EXPECT_EQ(set_memory_region(FakeKernel::kVm, kRegion2, &argument), 0);
    EXPECT_EQ(fake_kernel().slots.at(1).region.userspace_addr, own_address());
    EXPECT_EQ(start(), Code::kProblem);
    argument.region.slot = 2;
    argument.region.flags = 0;
    EXPECT_EQ(set_memory_region(FakeKernel::kVm, kRegion2, &argument), 0);
    EXPECT_NE(fake_kernel().slots.at(2).region.userspace_addr, own_address());
}

TEST_F(ResidentKernel, MoreSlotsThanItCanFollowArePassedOn) {
    for (uint32_t i = 0; i < kSlotLimit; ++i) ASSERT_EQ(set(i, i, 1), 0);
    EXPECT_EQ(set(kSlotLimit, kSlotLimit, 1), 0);
    EXPECT_EQ(fake_kernel().slots.at(kSlotLimit).region.userspace_addr,
              own_address() + kSlotLimit * kPageBytes);
    EXPECT_EQ(start(), Code::kProblem);
}

TEST_F(ResidentKernel, OwesQemuWhatWasClearedUntilItsOwnClear) {
    EXPECT_EQ(set(1, 0, 500, KVM_MEM_LOG_DIRTY_PAGES), 0);
    EXPECT_EQ(start(), Code::kOk);
    std::array<uint64_t, 8> words{};
    kvm_dirty_log get{};
    get.slot = 1;
    get.dirty_bitmap = words.data();
    ASSERT_EQ(get_dirty_log(FakeKernel::kVm, KVM_GET_DIRTY_LOG, &get), 0);
    EXPECT_EQ(words[0], ~uint64_t{0});
    EXPECT_EQ(words[7], (uint64_t{1} << 500 % 64) - 1);
    // Also after the agent has gone.
    {
        const Guard guard(g_state.lock);
        stop_log();
    }
    ASSERT_EQ(get_dirty_log(FakeKernel::kVm, KVM_GET_DIRTY_LOG, &get), 0);
    EXPECT_EQ(words[0], ~uint64_t{0});
    kvm_clear_dirty_log clear_argument{};
    clear_argument.slot = 1;
    clear_argument.num_pages = 500;
    clear_argument.dirty_bitmap = words.data();
    ASSERT_EQ(clear_dirty_log(FakeKernel::kVm, KVM_CLEAR_DIRTY_LOG, &clear_argument), 0);
    ASSERT_EQ(get_dirty_log(FakeKernel::kVm, KVM_GET_DIRTY_LOG, &get), 0);
    EXPECT_EQ(words[0], 0u);
}

}  // namespace
}  // namespace godwit::resident
