#include "engine/source/kept_ram.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace godwit {
namespace {

absl::Status link_again(const RamBlock& block, const std::string& path) {
    if (::link(block.path.c_str(), path.c_str()) != 0 && errno != EEXIST)
        return errno_status(errno, fmt::format("Cannot link {} to {}", path, block.path));
    struct stat linked {};
    if (::lstat(path.c_str(), &linked) != 0)
        return errno_status(errno, fmt::format("Cannot look at {}", path));
    if (linked.st_dev == block.device && linked.st_ino == block.inode) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("Cannot link {} to the RAM of {}: something else has that name; move it away",
                    path, block.name));
}

}  // namespace

void plan_kept_ram(std::span<const RamBlock> blocks, v1::JournalRecord& record) {
    record.clear_kept_ram();
    for (const RamBlock& block : blocks) {
        v1::KeptRam& kept = *record.add_kept_ram();
        kept.set_name(block.name);
        kept.set_path(fmt::format("{}.kept-{}",
                                  block.kept_base.empty() ? block.path : block.kept_base,
                                  record.migration_id()));
        kept.set_size_bytes(block.size);
        kept.set_backing(static_cast<uint32_t>(block.backing));
    }
}

absl::Status link_kept_ram(std::span<const RamBlock> blocks, const v1::JournalRecord& record) {
    for (size_t i = 0; i < blocks.size(); ++i) {
        const std::string& path = record.kept_ram(static_cast<int>(i)).path();
        if (::link(blocks[i].path.c_str(), path.c_str()) != 0)
            return errno_status(errno, fmt::format("Cannot link {} to {}", path, blocks[i].path));
    }
    return absl::OkStatus();
}

absl::StatusOr<std::vector<RamBlock>> open_kept_ram(const v1::JournalRecord& record) {
    std::vector<RamBlock> blocks;
    for (const v1::KeptRam& kept : record.kept_ram()) {
        if (kept.backing() > static_cast<uint32_t>(Backing::kHugetlb2M))
            return absl::DataLossError(fmt::format("the journal has no such backing for {}: {}",
                                                   kept.path(), kept.backing()));
        GODWIT_ASSIGN_OR_RETURN(
            RamBlock block,
            open_ram_block(kept.name(), kept.path(), static_cast<Backing>(kept.backing())));
        if (block.size != kept.size_bytes())
            return absl::DataLossError(fmt::format("{} has {} bytes instead of {}", kept.path(),
                                                   block.size, kept.size_bytes()));
        blocks.push_back(std::move(block));
    }
    if (blocks.empty()) return absl::NotFoundError("the journal names no RAM file that was kept");
    return blocks;
}

absl::StatusOr<LastPages> open_ram_of_qemu(std::span<const RamBlock> blocks,
                                           const v1::JournalRecord& record) {
    if (static_cast<size_t>(record.kept_ram_size()) != blocks.size())
        return absl::DataLossError("the journal names other RAM files than QEMU has");
    LastPages opened;
    for (size_t i = 0; i < blocks.size(); ++i) {
        const v1::KeptRam& kept = record.kept_ram(static_cast<int>(i));
        if (kept.name() != blocks[i].name || kept.size_bytes() != blocks[i].size)
            return absl::DataLossError(
                fmt::format("{} is no link to the RAM of {}", kept.path(), blocks[i].name));
        RamBlock block = without_file(blocks[i]);
        block.file.reset(::fcntl(blocks[i].file.get(), F_DUPFD_CLOEXEC, 0));
        if (!block.file.valid())
            return errno_status(errno, fmt::format("Cannot open the RAM of {}", block.name));
        opened.kept.Update(link_again(block, kept.path()));
        opened.blocks.push_back(std::move(block));
    }
    return opened;
}

bool kept_ram_is_lost(const absl::Status& status) {
    return absl::IsNotFound(status) || absl::IsDataLoss(status) || absl::IsInvalidArgument(status);
}

absl::Status release_kept_ram(v1::JournalRecord& record) {
    absl::Status status;
    for (const v1::KeptRam& kept : record.kept_ram())
        if (::unlink(kept.path().c_str()) != 0 && errno != ENOENT)
            status.Update(errno_status(errno, fmt::format("Cannot remove {}", kept.path())));
    record.clear_kept_ram();
    return status;
}

}  // namespace godwit
