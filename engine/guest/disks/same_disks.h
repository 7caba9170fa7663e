// Whether the disks of a VM are the same at two hosts: told by each, compared by the destination
// before anything moves, and by the source to say what nobody could compare.
#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <string>
#include <vector>

#include "engine/base/status.h"
#include "engine/guest/disks/disk_identity.h"
#include "engine/guest/disks/file_look.h"
#include "godwit/v1/transfer.pb.h"

namespace godwit {

using DiskIdentities = google::protobuf::RepeatedPtrField<v1::DiskIdentity>;

// Those that the guest writes, in the order of `spec`: of others a copy does as well. Error:
// FailedPrecondition, where one does not answer (look_at_files()).
absl::StatusOr<DiskIdentities> identities_of(const v1::VmSpec& spec, const DiskSources& sources,
                                             Duration limit = kFileLimit);

// Error: FailedPrecondition, where a path of `here` is surely another disk at the source. Paths
// that only one side has are not compared.
absl::Status check_same_disks(const DiskIdentities& at_source, const DiskIdentities& here);

// Of each disk of the source that was not seen to be the same, a sentence that says so and why.
std::vector<std::string> unchecked_disks(const DiskIdentities& at_source,
                                         const DiskIdentities& at_destination);

}  // namespace godwit
