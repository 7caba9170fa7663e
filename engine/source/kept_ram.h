// RAM files of the source that outlive its QEMU, and its agent: second links to them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/base/ram_block.h"
#include "godwit/v1/journal.pb.h"

namespace godwit {

// Notes in the record where the links will be: beside the files, with the migration's id. To be
// written down before link_kept_ram(), so that a restarted agent finds what it has to remove.
void plan_kept_ram(std::span<const RamBlock> blocks, v1::JournalRecord& record);
// Makes the links. Errors: link's.
absl::Status link_kept_ram(std::span<const RamBlock> blocks, const v1::JournalRecord& record);
// Opens them in a restarted agent. Errors: open_ram_block's (NotFound after a reboot: tmpfs).
absl::StatusOr<std::vector<RamBlock>> open_kept_ram(const v1::JournalRecord& record);
// A guest's memory as it was frozen.
struct LastPages {
    std::vector<RamBlock> blocks;
    absl::Status kept;  // an error: it ends with QEMU and this agent
};
// The same memory, of a QEMU that stands still: for a second link that was lost. It is made anew
// where the file still has a name; where it has none, or something else has the link's, that QEMU
// must not be ended before the last page has come. Errors: DataLoss, where the record has other
// files than these.
absl::StatusOr<LastPages> open_ram_of_qemu(std::span<const RamBlock> blocks,
                                           const v1::JournalRecord& record);
// Of open_kept_ram()'s error: what was kept is not there, or is something else. Of any other (no
// descriptor left, no right) the pages may be there: no reason to let go of them.
bool kept_ram_is_lost(const absl::Status& status);
// Removes the links, and forgets them. One that is gone is no error.
absl::Status release_kept_ram(v1::JournalRecord& record);

}  // namespace godwit
