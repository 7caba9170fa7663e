// Between absl::Status and grpc::Status, with the ErrorDetail that every error of the API carries.
#pragma once

#include <grpcpp/support/status.h>

#include <optional>
#include <string>

#include "engine/base/printable.h"
#include "engine/base/status.h"
#include "godwit/v1/status.pb.h"

namespace godwit {

// The same code and message, and `detail` in the standard details trailer.
grpc::Status to_grpc(const absl::Status& status, const v1::ErrorDetail& detail);

// The detail of an error that happened before anything was touched: the guest, if there is one,
// runs where it ran, and a retry is safe.
v1::ErrorDetail untouched(const std::string& reason);

// The same code and message, printable(), and the ErrorDetail attached to it if the peer sent one.
absl::Status from_grpc(const grpc::Status& status);

// An ErrorDetail travels with an absl::Status until annotate() makes a new one of it.
absl::Status with_detail(absl::Status status, const v1::ErrorDetail& detail);
std::optional<v1::ErrorDetail> detail_of(const absl::Status& status);
// The ErrorDetail of an error; an empty one (reason "") when the peer sent none.
v1::ErrorDetail detail_of(const grpc::Status& status);

}  // namespace godwit
