// What the engine does with a tracker, for property tests: a copy of a RAM file, kept up to date.
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <vector>

#include "dirty-tracking/tracker/tracker.h"
#include "engine/base/ram_block.h"

namespace godwit {

enum class Order { kRightArmThenRead, kWrongReadThenArm };

class Copier {
  public:
    // `block` must outlive it.
    explicit Copier(const RamBlock& block)
        : block_(block), copy_(block.size), early_(block.size), final_(block.size) {}

    // All of the file, as the engine does after start().
    bool copy_all() { return read(copy_, {0, block_.page_count()}); }

    // One collect(), and the copy of what it reported. `told`: what others reported.
    bool round(DirtyTracker& tracker, Order order, const PageBitmap* told = nullptr) {
        PageSet dirty{PageBitmap(block_.page_count())};
        if (order == Order::kWrongReadThenArm && !read(early_, {0, block_.page_count()}))
            return false;
        if (!tracker.collect(dirty, dirty).ok()) return false;
        if (told != nullptr) dirty[0].add(*told);
        bool fine = true;
        dirty[0].for_each_run([&](PageRange run) {
            if (order == Order::kRightArmThenRead) {
                fine = tracker.rearm(0, run).ok() && read(copy_, run) && fine;
            } else {
                fine = tracker.rearm(0, run).ok() && fine;
                std::memcpy(&copy_[run.begin * kPageBytes], &early_[run.begin * kPageBytes],
                            run.count() * kPageBytes);
            }
        });
        return fine;
    }

    // The first page that differs and that `may_differ` does not excuse, or none.
    std::optional<PageIndex> first_difference(
        const std::function<bool(PageIndex, const char* original)>& may_differ) {
        if (!read(final_, {0, block_.page_count()})) return 0;
        for (PageIndex page = 0; page < block_.page_count(); ++page) {
            const char* original = &final_[page * kPageBytes];
            if (std::memcmp(original, &copy_[page * kPageBytes], kPageBytes) == 0) continue;
            if (!may_differ(page, original)) return page;
        }
        return std::nullopt;
    }

  private:
    bool read(std::vector<char>& into, PageRange run) const {
        return read_fully(block_.file.get(), &into[run.begin * kPageBytes],
                          run.count() * kPageBytes, run.begin * kPageBytes)
            .ok();
    }

    const RamBlock& block_;
    std::vector<char> copy_;
    std::vector<char> early_;
    std::vector<char> final_;
};

}  // namespace godwit
