#include "transport/control/error_detail.h"

namespace godwit {

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
    return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

v1::ErrorDetail detail_of(const grpc::Status& status) {
    v1::StatusTrailer trailer;
    v1::ErrorDetail detail;
    if (trailer.ParseFromString(status.error_details()) && trailer.details_size() > 0)
        trailer.details(0).UnpackTo(&detail);
    return detail;
}

}  // namespace godwit
