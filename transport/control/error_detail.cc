#include "transport/control/error_detail.h"

#include "absl/strings/cord.h"

namespace godwit {
namespace {

constexpr const char* kPayload = "godwit.v1.ErrorDetail";

}  // namespace

grpc::Status to_grpc(const absl::Status& status, const v1::ErrorDetail& detail) {
    if (status.ok()) return grpc::Status::OK;
    v1::StatusTrailer trailer;
    trailer.set_code(static_cast<int>(status.code()));
    trailer.set_message(std::string(status.message()));
    trailer.add_details()->PackFrom(detail);
    return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
            trailer.SerializeAsString()};
}

v1::ErrorDetail untouched(const std::string& reason) {
    v1::ErrorDetail detail;
    detail.set_reason(reason);
    detail.set_guest_at(v1::GUEST_AT_SOURCE);
    detail.set_retry_safe(true);
    return detail;
}

absl::Status from_grpc(const grpc::Status& status) {
    if (status.ok()) return absl::OkStatus();
    absl::Status translated(static_cast<absl::StatusCode>(status.error_code()),
                            printable(status.error_message()));
    const v1::ErrorDetail detail = detail_of(status);
    return detail.reason().empty() ? translated : with_detail(std::move(translated), detail);
}

absl::Status with_detail(absl::Status status, const v1::ErrorDetail& detail) {
    status.SetPayload(kPayload, absl::Cord(detail.SerializeAsString()));
    return status;
}

std::optional<v1::ErrorDetail> detail_of(const absl::Status& status) {
    const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
    v1::ErrorDetail detail;
    if (!payload || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
    return detail;
}

v1::ErrorDetail detail_of(const grpc::Status& status) {
    v1::StatusTrailer trailer;
    v1::ErrorDetail detail;
    if (trailer.ParseFromString(status.error_details()) && trailer.details_size() > 0)
        trailer.details(0).UnpackTo(&detail);
    return detail;
}

}  // namespace godwit
