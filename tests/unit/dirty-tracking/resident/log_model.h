// What KVM's log, the resident and QEMU's own log must say of some slots on one RAM file, kept as
// plain sets.
#pragma once

#include <map>

#include "tests/unit/dirty-tracking/resident/resident_target.h"

namespace godwit {

struct ModelSlot {
    bool exists = false;
    PageIndex guest_page = 0;
    PageRange file;
    bool qemu_logs = false;
    Pages kernel;  // set in KVM's bitmap
    Pages raw;     // taken by the last collect, not cleared since
    Pages qemu;    // what QEMU would see without us
};

// Pages of a slot count from its beginning, all others from the file's.
class LogModel {
  public:
    explicit LogModel(bool initially_set) : initially_set_(initially_set) {}

    void create(ModelSlot& slot, bool logging) {
        const Pages all = range_of(0, slot.file.count());
        slot.exists = true;
        slot.raw = {};
        slot.kernel = initially_set_ && (logging || slot.qemu_logs) ? all : Pages{};
        slot.qemu = initially_set_ && slot.qemu_logs ? all : Pages{};
        mark_whole(slot, logging);
    }
    void remove(ModelSlot& slot, bool logging) {
        mark_whole(slot, logging);
        slot.exists = false;
        qemu_log_off(slot);
    }
    void mark_whole(const ModelSlot& slot, bool logging) {
        if (logging) marked_.merge(range_of(slot.file.begin, slot.file.count()));
    }
    static void write(ModelSlot& slot, const Pages& pages) {
        for (const PageIndex page : pages) {
            slot.kernel.insert(page);
            if (slot.qemu_logs) slot.qemu.insert(page);
        }
    }
    // The log begins: everything is armed.
    void start(std::map<uint32_t, ModelSlot>& slots) {
        marked_.clear();
        for (auto& [id, slot] : slots) slot.kernel = slot.raw = {};
    }
    Pages collect(std::map<uint32_t, ModelSlot>& slots) {
        Pages pages = std::move(marked_);
        marked_.clear();
        for (auto& [id, slot] : slots) {
            if (!slot.exists) continue;
            slot.raw = slot.kernel;
            pages.merge(moved(slot.kernel, slot.file.begin));
        }
        return pages;
    }
    static void rearm(std::map<uint32_t, ModelSlot>& slots, PageRange range) {
        for (auto& [id, slot] : slots) {
            if (!slot.exists) continue;
            for (PageIndex page = 0; page < slot.file.count(); ++page) {
                const PageIndex in_file = slot.file.begin + page;
                if (in_file < range.begin || in_file >= range.end) continue;
                if (slot.raw.erase(page) != 0) slot.kernel.erase(page);
            }
        }
    }
    void qemu_log_on(ModelSlot& slot, bool logging) {
        slot.qemu_logs = true;
        slot.qemu = initially_set_ ? range_of(0, slot.file.count()) : Pages{};
        if (logging && !initially_set_) {
            marked_.merge(moved(slot.kernel, slot.file.begin));
            slot.kernel = slot.raw = {};
        }
    }
    static void qemu_log_off(ModelSlot& slot) {
        slot.qemu_logs = false;
        slot.qemu = {};
    }
    void qemu_clear(ModelSlot& slot, const Pages& pages, bool logging) {
        for (const PageIndex page : pages) {
            slot.qemu.erase(page);
            slot.kernel.erase(page);
            slot.raw.erase(page);
        }
        if (logging) marked_.merge(moved(pages, slot.file.begin));
    }

  private:
    bool initially_set_;
    Pages marked_;  // once, by the resident itself
};

}  // namespace godwit
