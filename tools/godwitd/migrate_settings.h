// What a MigrateRequest asks for, checked: nothing of it is trusted before.
#pragma once

#include "engine/base/status.h"
#include "engine/source/settings.h"
#include "godwit/v1/agent.pb.h"

namespace godwit {

// The id stays empty where the request has none. Errors: InvalidArgument, naming the field.
absl::StatusOr<MigrationSettings> migrate_settings(const v1::MigrateRequest& request);

// A duration of the API, in milliseconds: as long as any deadline can be, at most.
Duration api_timeout(uint64_t timeout_ms);

}  // namespace godwit
