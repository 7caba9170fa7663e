#include <gtest/gtest.h>

#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

class ResidentSlots : public ResidentTest {};

// Neither end on a word of the bitmap.
constexpr PageRange kOdd{37, 901};

TEST_F(ResidentSlots, MayBeginAnywhereInTheFile) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->slot(1, kGuestPage + 5, 0, kOdd), "fine");
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(target_->write({kGuestPage + 5, kGuestPage + 5 + 63, kGuestPage + 5 + 863}), "fine");
    EXPECT_EQ(collect(), (Pages{37, 100, 900}));
    EXPECT_TRUE(client_->rearm(0, {38, 901}).ok());
    EXPECT_EQ(collect(), Pages{37});
}

TEST_F(ResidentSlots, DeletedOneIsDirtyWhole) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, kOdd), "fine");
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(target_->write({kGuestPage}), "fine");
    EXPECT_EQ(target_->remove_slot(1), "fine");
    EXPECT_EQ(collect(), range_of(kOdd.begin, kOdd.count()));
    EXPECT_EQ(collect(), Pages{});
}

TEST_F(ResidentSlots, NewOneIsDirtyWholeAndLogged) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, kOdd), "fine");
    EXPECT_EQ(collect(), range_of(kOdd.begin, kOdd.count()));
    rearm_all();
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(target_->write({kGuestPage + 1}), "fine");
    EXPECT_EQ(collect(), Pages{kOdd.begin + 1});
}

TEST_F(ResidentSlots, MovedOneIsDirtyWholeAndLogged) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, kOdd), "fine");
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(target_->slot(1, kGuestPage + 0x1001, 0, kOdd), "fine");
    EXPECT_EQ(collect(), range_of(kOdd.begin, kOdd.count()));
    rearm_all();
    EXPECT_EQ(target_->write({kGuestPage + 0x1001}), "fine");
    EXPECT_EQ(collect(), Pages{kOdd.begin});
}

TEST_F(ResidentSlots, ResizedOneIsRefusedByTheKernelAsEver) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, kOdd), "fine");
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {37, 101}), "EINVAL");
    EXPECT_EQ(target_->write({kGuestPage + 700}), "fine");
    EXPECT_EQ(collect(), Pages{737});
}

TEST_F(ResidentSlots, OnTopOfAnotherIsRefusedAsEver) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 512}), "fine");
    EXPECT_EQ(target_->slot(2, kGuestPage + 100, 0, {512, 1024}), "EEXIST");
    const auto slots = client_->slots();
    ASSERT_TRUE(slots.ok());
    EXPECT_EQ(slots->size(), 2u);  // with kvm_target's own
}

TEST_F(ResidentSlots, ReadOnlyOneIsLoggedToo) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, kOdd, kReadOnlyFlag), "fine");
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_NE(target_->write({kGuestPage}), "fine");  // leaves the guest
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(target_->remove_slot(1), "fine");
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, kOdd), "fine");
    EXPECT_EQ(collect(), range_of(kOdd.begin, kOdd.count()));
    rearm_all();
    EXPECT_EQ(target_->write({kGuestPage}), "fine");
    EXPECT_EQ(collect(), Pages{kOdd.begin});
}

TEST_F(ResidentSlots, OfTheSecondAddressSpaceIsFollowed) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    if (target_->tell("address-spaces") != "2") GTEST_SKIP() << "this KVM has one address space";
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 512}), "fine");
    EXPECT_EQ(target_->slot(1 + kSecondAddressSpace, kGuestPage, 0, {256, 1024}), "fine");
    ASSERT_NO_FATAL_FAILURE(start_log());
    const auto slots = client_->slots();
    ASSERT_TRUE(slots.ok());
    ASSERT_EQ(slots->size(), 3u);
    EXPECT_EQ((*slots)[2].address_space, 1u);
    EXPECT_EQ((*slots)[2].id, 1u);
    EXPECT_TRUE((*slots)[2].tracked);
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(target_->remove_slot(1 + kSecondAddressSpace), "fine");
    EXPECT_EQ(collect(), range_of(256, 768));
    EXPECT_EQ(target_->write({kGuestPage + 300}), "fine");
    EXPECT_EQ(collect(), Pages{300});
}

TEST_F(ResidentSlots, OnPrivateMemoryAreLeftAlone) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    const auto views = client_->views();
    ASSERT_TRUE(views.ok());
    EXPECT_TRUE(views->empty());
    const auto slots = client_->slots();
    ASSERT_TRUE(slots.ok());
    ASSERT_EQ(slots->size(), 1u);
    EXPECT_EQ(slots->front().kind, resident::SlotKind::kNotRam);
}

TEST_F(ResidentSlots, ThatSpanTwoFilesArePassedOnAndCounted) {
    ResidentTargetOptions options;
    options.ram = {};
    ASSERT_NO_FATAL_FAILURE(start_target(options));
    const std::string path = target_->mount.path() + "/two";
    EXPECT_EQ(target_->tell("pair " + path + "0 " + path + "1 " + std::to_string(kChunkBytes)),
              "fine");
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 1024}), "fine");
    EXPECT_EQ(target_->write({kGuestPage + 511, kGuestPage + 512}), "fine");
    const auto state = client_->state();
    ASSERT_TRUE(state.ok());
    EXPECT_EQ(state->unmappable_slots, 1u);
}

TEST_F(ResidentSlots, ShareTheViewOfTheirFile) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 160}), "fine");
    EXPECT_EQ(target_->slot(2, kGuestPage + 256, 0, {256, 1024}), "fine");
    EXPECT_EQ(target_->remove_slot(1), "fine");
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 256}), "fine");
    const auto views = client_->views();
    ASSERT_TRUE(views.ok());
    EXPECT_EQ(views->size(), 1u);
}

TEST_F(ResidentSlots, GetANewViewWhenQemuHasMappedTheFileAnew) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 512}), "fine");
    EXPECT_EQ(target_->remove_slot(1), "fine");
    EXPECT_EQ(target_->tell("unmap 0"), "fine");
    const std::string& path = target_->blocks[0].path;
    EXPECT_EQ(target_->tell("ram " + path + " 2097152 2097152"), "fine");
    EXPECT_EQ(target_->slot(1, kGuestPage, 1, {0, 512}), "fine");
    const auto views = client_->views();
    ASSERT_TRUE(views.ok());
    ASSERT_EQ(views->size(), 1u);
    EXPECT_EQ(views->front().offset, kChunkBytes);
    EXPECT_EQ(target_->write({kGuestPage}), "fine");
    EXPECT_NE(target_->tell("load 1 0"), "0");
}

TEST_F(ResidentSlots, MayBeMany) {
    ASSERT_NO_FATAL_FAILURE(start_target());
    for (uint32_t i = 0; i < 40; ++i)
        ASSERT_EQ(target_->slot(i, kGuestPage + 8 * i, 0, {4 * i, 4 * i + 3}), "fine");
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(target_->write({kGuestPage + 8 * 39}), "fine");
    EXPECT_EQ(collect(), Pages{4 * 39});
    const auto slots = client_->slots();
    ASSERT_TRUE(slots.ok());
    EXPECT_EQ(slots->size(), 41u);
}

}  // namespace
}  // namespace godwit
