#include "transport/control/error_detail.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

TEST(ErrorDetail, TravelsInTheStandardTrailer) {
    const grpc::Status wire = to_grpc(absl::NotFoundError("no such VM"), untouched("NOT_FOUND"));
    EXPECT_EQ(wire.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(wire.error_message(), "no such VM");
    v1::StatusTrailer trailer;  // the same bytes as google.rpc.Status
    ASSERT_TRUE(trailer.ParseFromString(wire.error_details()));
    EXPECT_EQ(trailer.code(), static_cast<int>(grpc::StatusCode::NOT_FOUND));
    EXPECT_EQ(trailer.message(), "no such VM");
    EXPECT_EQ(detail_of(wire).reason(), "NOT_FOUND");
}

TEST(ErrorDetail, StaysWithTheStatusThatItCameWith) {
    const absl::Status status =
        from_grpc(to_grpc(absl::AlreadyExistsError("taken"), untouched("NAME_TAKEN")));
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
    const auto detail = detail_of(status);
    ASSERT_TRUE(detail.has_value());
    EXPECT_EQ(detail->reason(), "NAME_TAKEN");
    EXPECT_EQ(detail->guest_at(), v1::GUEST_AT_SOURCE);
    EXPECT_TRUE(detail->retry_safe());
}

TEST(ErrorDetail, IsAbsentWhereThePeerSentNone) {
    const absl::Status status = from_grpc({grpc::StatusCode::UNAVAILABLE, "Socket closed"});
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(detail_of(status).has_value());
}

TEST(ErrorDetail, OfGarbageIsAbsent) {
    const absl::Status status =
        from_grpc({grpc::StatusCode::INTERNAL, "?", std::string("\xff\xff\x01garbage", 10)});
    EXPECT_FALSE(detail_of(status).has_value());
}

TEST(ErrorDetail, MessagesOfPeersAreCutAndHaveNoControlCharacters) {
    const absl::Status status =
        from_grpc({grpc::StatusCode::INTERNAL, "a\nb\x1b[2Jc\x7f\r" + std::string(10'000, 'x')});
    EXPECT_EQ(std::string(status.message()).substr(0, 10), "a?b?[2Jc??");
    EXPECT_EQ(status.message().size(), 4096U);
}

// Protobuf reads no message with a string that is no UTF-8.
TEST(ErrorDetail, MessagesOfPeersCanBePassedOnWhateverTheirBytes) {
    const absl::Status status = from_grpc({grpc::StatusCode::INTERNAL, "disk \xff\xc3 is full"});
    EXPECT_EQ(status.message(), "disk ?? is full");
    v1::ErrorDetail passed_on;
    passed_on.set_reason(std::string(status.message()));
    v1::ErrorDetail heard;
    EXPECT_TRUE(heard.ParseFromString(passed_on.SerializeAsString()));
}

TEST(ErrorDetail, OkStaysOk) {
    EXPECT_TRUE(to_grpc(absl::OkStatus(), untouched("X")).ok());
    EXPECT_TRUE(from_grpc(grpc::Status::OK).ok());
}

}  // namespace
}  // namespace godwit
