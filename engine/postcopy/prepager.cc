#include "engine/postcopy/prepager.h"

#include <algorithm>

namespace godwit {

uint32_t Prepager::next(BlockIndex block, PageIndex page) {
    ++clock_;
    Walk* oldest = &walks_[0];
    for (Walk& walk : walks_) {
        if (walk.touched < oldest->touched) oldest = &walk;
        if (!walk.used || walk.block != block || page < walk.last) continue;
        if (page - walk.last > uint64_t{walk.pages} * kSpread + 1 + kSlack) continue;
        walk.touched = clock_;
        if (page == walk.last) return walk.pages;  // asked again, after a lost connection
        walk.last = page;
        walk.pages = std::min(limit_, std::max(1u, 2 * walk.pages));
        first_pages_ = std::min({limit_, kFirstPages, 2 * first_pages_ + 1});
        return walk.pages;
    }
    const uint32_t pages = std::min(limit_, first_pages_);
    first_pages_ /= 2;
    *oldest = {.used = true, .block = block, .last = page, .pages = pages, .touched = clock_};
    return pages;
}

}  // namespace godwit
