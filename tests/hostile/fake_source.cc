#include "tests/hostile/fake_source.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/base/hash.h"
#include "engine/guest/vm_file/vm_file.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

constexpr Duration kPatience = std::chrono::seconds(10);

}  // namespace

FakeSource::FakeSource(TestAgent& to)
    : api_(transfer_api(to)), host_(to.address().substr(0, to.address().rfind(':'))) {
    const absl::StatusOr<v1::VmSpec> spec =
        read_vm_file(write_vm_file(to, small_guest("stranger")));
    if (!spec.ok()) {
        ADD_FAILURE() << spec.status();
        return;
    }
    request_.set_protocol_version(kProtocolVersion);
    request_.set_migration_id("lies");
    *request_.mutable_spec() = *spec;
    v1::RamBlockInfo& block = *request_.add_blocks();
    block.set_name("ram0");
    block.set_size_bytes(spec->memory_bytes());
    for (const std::string& path : {spec->kernel(), spec->firmware()}) {
        if (path.empty()) continue;
        const absl::StatusOr<Hash128> hash = hash_file(path);
        EXPECT_TRUE(hash.ok()) << hash.status();
        v1::BootFile& file = *request_.add_boot_files();
        file.set_path(path);
        if (hash.ok()) file.set_hash(to_hex(*hash));
    }
    request_.set_streams(kDataStreams);
    request_.set_source("a liar");
}

grpc::Status FakeSource::prepare() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    return api_->Prepare(&context, request_, &response_);
}

std::unique_ptr<TcpChannel> FakeSource::connect() {
    auto channel = connect_tcp(host_, static_cast<uint16_t>(response_.data_port()),
                               Clock::system().now() + kPatience);
    if (channel.ok()) return *std::move(channel);
    ADD_FAILURE() << channel.status();
    return nullptr;
}

FrameRoute FakeSource::route(uint16_t stream) const {
    return {.migration_id = frame_migration_id(request_.migration_id()), .stream = stream};
}

SessionToken FakeSource::token() const {
    SessionToken token{};
    EXPECT_EQ(response_.session_token().size(), token.size());
    std::memcpy(token.data(), response_.session_token().data(),
                std::min(token.size(), response_.session_token().size()));
    return token;
}

FakeStream FakeSource::open(uint16_t stream) {
    FakeStream opened{.channel = connect()};
    if (!opened.channel) return opened;
    const absl::Status greeted =
        client_hello(*opened.channel, route(stream), token(), Clock::system().now() + kPatience);
    EXPECT_TRUE(greeted.ok()) << greeted;
    opened.writer = std::make_unique<FrameWriter>(*opened.channel, route(stream));
    opened.reader = std::make_unique<FrameReader>(*opened.channel, route(stream));
    return opened;
}

std::vector<FakeStream> FakeSource::open_all() {
    std::vector<FakeStream> streams;
    for (uint16_t i = 0; i <= kDataStreams; ++i) streams.push_back(open(i));
    return streams;
}

v1::IncomingState FakeSource::fate() {
    grpc::ClientContext context;
    v1::QueryRequest request;
    request.set_migration_id(request_.migration_id());
    v1::QueryResponse response;
    EXPECT_TRUE(api_->Query(&context, request, &response).ok());
    return response.state();
}

grpc::Status FakeSource::abort(const std::string& reason) {
    grpc::ClientContext context;
    v1::AbortRequest request;
    request.set_migration_id(request_.migration_id());
    request.set_reason(reason);
    v1::AbortResponse response;
    return api_->Abort(&context, request, &response);
}

}  // namespace godwit::testing
