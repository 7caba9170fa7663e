#include "engine/guest/disks/same_disks.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace godwit {
namespace {

const v1::DiskIdentity* find_disk(const DiskIdentities& disks, const std::string& path) {
    const auto found = std::find_if(disks.begin(), disks.end(), [&](const v1::DiskIdentity& disk) {
        return disk.path() == path;
    });
    return found == disks.end() ? nullptr : &*found;
}

bool is_comparable(const v1::DiskIdentity& one, const v1::DiskIdentity& other) {
    return one.kind() == other.kind() && !one.id().empty() && !other.id().empty();
}

}  // namespace

absl::StatusOr<DiskIdentities> identities_of(const v1::VmSpec& spec, const DiskSources& sources,
                                             Duration limit) {
    std::vector<HostFile> disks;
    for (const v1::Disk& disk : spec.disks())
        if (!disk.readonly()) disks.push_back({.what = "disk", .path = disk.path()});
    const auto identities = std::make_shared<DiskIdentities>();
    const auto look = [identities, sources](const HostFile& disk) {
        DiskIdentity identity = disk_identity(disk.path, sources);
        v1::DiskIdentity& told = *identities->Add();
        told.set_path(disk.path);
        told.set_kind(std::move(identity.kind));
        told.set_id(std::move(identity.id));
        return absl::OkStatus();
    };
    GODWIT_RETURN_IF_ERROR(look_at_files(std::move(disks), look, limit));
    return std::move(*identities);
}

absl::Status check_same_disks(const DiskIdentities& at_source, const DiskIdentities& here) {
    for (const v1::DiskIdentity& ours : here) {
        const v1::DiskIdentity* theirs = find_disk(at_source, ours.path());
        if (theirs == nullptr || !is_comparable(ours, *theirs) || ours.id() == theirs->id())
            continue;
        return absl::FailedPreconditionError(fmt::format(
            "disk {} is another one here than at the source, {} at both; put it on storage that "
            "both hosts share, or take --unsafe",
            ours.path(), ours.kind()));
    }
    return absl::OkStatus();
}

std::vector<std::string> unchecked_disks(const DiskIdentities& at_source,
                                         const DiskIdentities& at_destination) {
    std::vector<std::string> unchecked;
    for (const v1::DiskIdentity& ours : at_source) {
        const v1::DiskIdentity* theirs = find_disk(at_destination, ours.path());
        if (theirs != nullptr && is_comparable(ours, *theirs) && ours.id() == theirs->id())
            continue;
        // The other host's words stay out: they go to a terminal.
        const char* there = ", and something else there";
        if (theirs == nullptr) there = ", and the other agent does not say what it is there";
        if (theirs != nullptr && theirs->kind() == ours.kind()) there = ", and there too";
        unchecked.push_back(
            fmt::format("disk {}: nothing tells whether it is the same at both hosts: {} here{}",
                        ours.path().empty() ? "without a path" : ours.path(), ours.kind(), there));
    }
    return unchecked;
}

}  // namespace godwit
