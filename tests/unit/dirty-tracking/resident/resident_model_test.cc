// Random writes, slot changes, collects, clears and a QEMU that logs for itself: the resident
// reports exactly what the model says, and QEMU sees exactly what it would see alone.
#include <gtest/gtest.h>

#include <random>
#include <sstream>

#include "tests/unit/dirty-tracking/resident/log_model.h"
#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

#ifndef GODWIT_MODEL_SCHEDULES
#define GODWIT_MODEL_SCHEDULES 25
#endif

namespace godwit {
namespace {

constexpr PageIndex kModelPages = 1024;
constexpr int kSteps = 25;

Pages parse_pages(const std::string& answer) {
    std::istringstream in(answer);
    std::string word;
    in >> word;
    Pages pages;
    for (PageIndex page = 0; in >> page;) pages.insert(page);
    return pages;
}

class ResidentModel : public ResidentTest {
  protected:
    uint64_t below(uint64_t limit) { return random_() % limit; }

    // Three slots with gaps between, none on a word of the bitmap unless by chance.
    void make_layout() {
        slots_.clear();
        PageIndex at = below(70);
        for (uint32_t id = 1; id <= 3; ++id) {
            const PageIndex length = 1 + below(300);
            slots_[id].guest_page = kGuestPage + 0x1000 * id + below(100);
            slots_[id].file = {at, at + length};
            at += length + below(40);
        }
    }

    [[nodiscard]] uint32_t flags_of(const ModelSlot& slot) const {
        return slot.qemu_logs ? kLogFlag : 0;
    }
    void set(uint32_t id, const ModelSlot& slot) {
        ASSERT_EQ(target_->slot(id, slot.guest_page, 0, slot.file, flags_of(slot)), "fine");
    }

    void create_or_remove(uint32_t id, ModelSlot& slot) {
        if (slot.exists) {
            ASSERT_EQ(target_->remove_slot(id), "fine");
            model_.remove(slot, logging_);
            return;
        }
        slot.qemu_logs = below(4) == 0;
        set(id, slot);
        model_.create(slot, logging_);
    }
    void move(uint32_t id, ModelSlot& slot) {
        const PageIndex before = slot.guest_page;
        slot.guest_page = kGuestPage + 0x1000 * id + below(100);
        set(id, slot);
        if (slot.guest_page != before) model_.mark_whole(slot, logging_);
    }
    void write(ModelSlot& slot) {
        Pages pages;
        const uint64_t count = 1 + below(64);
        for (uint64_t i = 0; i < count; ++i) pages.insert(below(slot.file.count()));
        ASSERT_EQ(target_->write(moved(pages, slot.guest_page)), "fine");
        LogModel::write(slot, pages);
    }
    void switch_qemu_log(uint32_t id, ModelSlot& slot) {
        if (slot.qemu_logs) {
            LogModel::qemu_log_off(slot);
        } else {
            model_.qemu_log_on(slot, logging_);
        }
        set(id, slot);
    }
    void qemu_get(uint32_t id, const ModelSlot& slot) {
        const std::string answer = target_->tell("get " + std::to_string(id));
        if (!slot.qemu_logs) {
            ASSERT_EQ(answer, "ENOENT");
        } else {
            ASSERT_EQ(parse_pages(answer), slot.qemu);
        }
    }
    // Whole words of a slot, as QEMU does, of what it has seen.
    void qemu_clear(uint32_t id, ModelSlot& slot) {
        if (!slot.qemu_logs) return;
        const PageIndex first = below(slot.file.count()) / 64 * 64;
        const PageIndex end = std::min(slot.file.count(), first + 64 * (1 + below(4)));
        Pages pages;
        for (const PageIndex page : slot.qemu)
            if (page >= first && page < end) pages.insert(page);
        ASSERT_EQ(target_->tell("clear " + std::to_string(id) + " " + std::to_string(first) + " " +
                                    std::to_string(end - first),
                                pages),
                  "fine");
        model_.qemu_clear(slot, pages, logging_);
    }
    void start_or_stop() {
        if (logging_) {
            ASSERT_TRUE(client_->stop_log().ok());
        } else {
            ASSERT_NO_FATAL_FAILURE(start_log());
            model_.start(slots_);
        }
        logging_ = !logging_;
    }
    void collect_and_compare() {
        if (logging_) {
            ASSERT_EQ(collect(), model_.collect(slots_));
        }
    }
    void rearm() {
        if (!logging_) return;
        const PageIndex first = below(kModelPages);
        const PageRange range{first, first + 1 + below(kModelPages - first)};
        ASSERT_TRUE(client_->rearm(0, range).ok());
        LogModel::rearm(slots_, range);
    }

    void step() {
        const auto id = static_cast<uint32_t>(1 + below(3));
        ModelSlot& slot = slots_[id];
        const uint64_t kind = below(20);
        if (kind == 0) return create_or_remove(id, slot);
        if (kind == 1) return start_or_stop();
        if (kind <= 5) return collect_and_compare();
        if (kind <= 9) return rearm();
        if (!slot.exists) return create_or_remove(id, slot);
        if (kind == 10) return move(id, slot);
        if (kind == 11 && qemu_logs_) return switch_qemu_log(id, slot);
        if (kind == 12) return qemu_get(id, slot);
        if (kind == 13) return qemu_clear(id, slot);
        write(slot);
    }

    void run_schedule(uint64_t seed) {
        random_.seed(seed);
        make_layout();
        model_ = LogModel(initially_set_);
        qemu_logs_ = below(2) == 0;
        logging_ = false;
        for (auto& [id, slot] : slots_) ASSERT_NO_FATAL_FAILURE(create_or_remove(id, slot));
        ASSERT_NO_FATAL_FAILURE(start_or_stop());
        for (int i = 0; i < kSteps; ++i) ASSERT_NO_FATAL_FAILURE(step());
        if (!logging_) {
            ASSERT_NO_FATAL_FAILURE(start_or_stop());
        }
        ASSERT_NO_FATAL_FAILURE(collect_and_compare());
        ASSERT_NO_FATAL_FAILURE(start_or_stop());
        for (auto& [id, slot] : slots_) {
            ASSERT_NO_FATAL_FAILURE(qemu_get(id, slot));
            if (slot.exists) {
                ASSERT_EQ(target_->remove_slot(id), "fine");
            }
        }
    }

    void run(const std::string& manual, uint64_t first_seed) {
        initially_set_ = manual == "manual=3";
        ASSERT_NO_FATAL_FAILURE(start_target({.arguments = {manual}}));
        for (uint64_t seed = first_seed; seed < first_seed + GODWIT_MODEL_SCHEDULES; ++seed) {
            run_schedule(seed);
            ASSERT_FALSE(HasFailure()) << "seed " << seed;
        }
    }

    std::mt19937_64 random_;
    std::map<uint32_t, ModelSlot> slots_;
    LogModel model_{true};
    bool initially_set_ = true;
    bool logging_ = false;
    bool qemu_logs_ = false;
};

TEST_F(ResidentModel, HoldsWithInitiallySetFirst) { run("manual=3", 10'000); }
TEST_F(ResidentModel, HoldsWithInitiallySetSecond) { run("manual=3", 20'000); }
TEST_F(ResidentModel, HoldsWithInitiallySetThird) { run("manual=3", 30'000); }
TEST_F(ResidentModel, HoldsWithoutInitiallySetFirst) { run("manual=1", 40'000); }
TEST_F(ResidentModel, HoldsWithoutInitiallySetSecond) { run("manual=1", 50'000); }

}  // namespace
}  // namespace godwit
