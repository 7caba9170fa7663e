// fuzz-seeds CORPORA: writes the binary seeds of corpus/ anew (the text ones are written by hand).
// A seed is a message as the other side would send it, so that a fuzzer starts behind the first
// checks.
#include <fcntl.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "dirty-tracking/resident/protocol.h"
#include "engine/base/check.h"
#include "engine/report/json.h"
#include "godwit/v1/agent.pb.h"
#include "godwit/v1/transfer.pb.h"
#include "transport/codec/chunk_codec.h"
#include "transport/control/error_detail.h"
#include "transport/frame/bodies.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

using Seed = std::vector<std::byte>;

std::string g_corpora;

void put(const std::string& target, const std::string& name, std::span<const std::byte> bytes) {
    std::filesystem::create_directories(g_corpora + "/" + target);
    std::ofstream(g_corpora + "/" + target + "/" + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
}

template <typename Bytes>
void append(Seed& seed, const Bytes& bytes) {
    const auto more = std::as_bytes(std::span(bytes));
    seed.insert(seed.end(), more.begin(), more.end());
}
void append_byte(Seed& seed, size_t byte) { seed.push_back(static_cast<std::byte>(byte)); }
void append_u16(Seed& seed, size_t value) {
    append_byte(seed, value & 0xff);
    append_byte(seed, value >> 8);
}

// --- frames ---------------------------------------------------------------------------------

void put_header(const std::string& name, FrameKind kind, const FrameBytes& body) {
    FrameHeader header{.kind = kind,
                       .body_bytes = static_cast<uint32_t>(body.size()),
                       .body_checksum = checksum_body(kind, body)};
    std::array<std::byte, kFrameHeaderBytes> bytes{};
    encode_header(header, bytes);
    Seed seed;
    append(seed, bytes);
    append(seed, body);
    put("frame_header", name, seed);
}

void put_body(size_t which, const std::string& name, std::span<const std::byte> body) {
    Seed seed;
    append_byte(seed, which);
    append(seed, body);
    put("frame_bodies", name, seed);
}

void frames() {
    put_header("hello", FrameKind::kHello, HelloBody{}.encode());
    put_header("ping", FrameKind::kPing, PingBody{.nonce = 7}.encode());
    put_header("commit", FrameKind::kCommit, {});
    put_header("abort", FrameKind::kAbort, TextBody{.text = "no room"}.encode());
    const ChunkPages pages{.block = 1, .chunk = 999, .pages = {1, 0, 3}};
    put_header("damaged", FrameKind::kDamaged, DamagedBody{.stream = 1, .pages = pages}.encode());
    put_body(0, "hello", HelloBody{}.encode());
    put_body(1, "marker", MarkerBody{.round = 3}.encode());
    put_body(2, "marker-ack", MarkerAckBody{.round = 3, .stream = 1}.encode());
    put_body(3, "device-state-end", DeviceStateEndBody{.total_bytes = 210'000}.encode());
    put_body(4, "text", TextBody{.text = "cont: an image is locked\n"}.encode());
    put_body(5, "verify-chunks",
             VerifyChunksBody{.block = 1, .first_chunk = 998, .hashes = {{1, 2}, {3, 4}}}.encode());
    put_body(
        6, "verify-result",
        VerifyResultBody{.block = 1, .first_chunk = 990, .chunk_count = 10, .different = {991, 999}}
            .encode());
    put_body(6, "verify-result-none",
             VerifyResultBody{.block = 0, .first_chunk = 0, .chunk_count = 4}.encode());
    put_body(8, "verify-pages-result", VerifyPagesResultBody{.different = {1, 2}}.encode());
    put_body(9, "missing", encode_chunk_pages(std::array{pages, ChunkPages{.pages = {1}}}));
    put_body(10, "damaged", DamagedBody{.stream = 1, .pages = pages}.encode());
    put_body(11, "page-request", PageRequestBody{.block = 1, .page = 511'999}.encode());
    put_body(12, "ping", PingBody{.nonce = 9}.encode());
    put_body(13, "any", FrameBytes(44));
}

void put_pages(const std::string& name, PagesBody pages) {
    pages.raw_bytes = count_pages(pages.filled()) * static_cast<uint32_t>(kPageBytes);
    Seed seed(kPagesHeadBytes);
    encode_pages_head(pages, std::span(seed).first<kPagesHeadBytes>());
    append(seed, pages.payload);
    put("pages_body", name, seed);
}

void pages() {
    std::vector<std::byte> raw(4 * kPageBytes);
    for (size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<std::byte>(i / 64);
    std::vector<std::byte> packed(raw.size());
    ChunkCodec codec;
    const auto size = codec.pack(PageCodec::kLz4, raw, packed);
    GODWIT_CHECK(size.has_value());
    const auto payload = std::span(packed).first(*size);
    std::vector<std::byte> zstd(raw.size());
    const auto zstd_size = codec.pack(PageCodec::kZstd, raw, zstd);
    GODWIT_CHECK(zstd_size.has_value());
    zstd.resize(*zstd_size);
    put_pages("zeros", {.chunk = 3, .present = {7}, .zero = {7}});
    put_pages("raw", {.block = 1,
                      .chunk = 999,
                      .present = {0, 0b11},
                      .zero = {0, 0b10},
                      .payload = std::span(raw).first(kPageBytes)});
    put_pages("lz4", {.present = {0b1111}, .codec = PageCodec::kLz4, .payload = payload});
    put_pages("zstd", {.present = {0b1111}, .codec = PageCodec::kZstd, .payload = zstd});
    put_pages(
        "delta",
        {.present = {0b101101}, .delta = {0b1001}, .codec = PageCodec::kLz4, .payload = payload});
    put_pages("whole-chunk-of-zeros",
              {.present = {~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull},
               .zero = {~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull}});
    const auto put_unpack = [&](const std::string& name, std::span<const std::byte> what) {
        Seed unpack;
        append_byte(unpack, 0);
        append_u16(unpack, raw.size() / 64);
        append(unpack, what);
        put("chunk_codec", name, unpack);
    };
    put_unpack("unpack", payload);
    put_unpack("unpack-zstd", zstd);
    Seed pack;
    append_byte(pack, 1);
    append_byte(pack, 63);
    append(pack, std::string("the same words again and again"));
    put("chunk_codec", "pack", pack);
    Seed deltas;
    constexpr std::array kDeltas{2,   1,                                   // two pages of room
                                 3,   0,  1, 9, 0, 4, 97,  98,  99,  100,  // page 0
                                 3,   1,  1, 0, 1, 3, 120, 121, 122,       // page 1
                                 0,                                        // a round
                                 3,   0,  2, 8, 0, 1, 113,                 // page 0 again,
                                 255, 15, 2, 1, 2,                         // at its end too
                                 2,   1,                                   // page 1 is lost
                                 3,   1,  0, 1, 0, 3, 3,   0,   0};
    for (const int byte : kDeltas) append_byte(deltas, static_cast<size_t>(byte));
    put("chunk_codec", "deltas", deltas);
}

// --- the resident ---------------------------------------------------------------------------

template <typename Body>
void append_request(Seed& seed, Body body, resident::Kind kind, size_t what) {
    body.header = {.kind = kind, .length = sizeof body};
    append_byte(seed, what);
    append_u16(seed, sizeof body);
    append(seed, std::span(&body, 1));
}

resident::StartRequest start_request() {
    resident::StartRequest request{};
    request.block_count = 1;
    request.blocks[0] = {0, 0, 96, 64};  // the target puts its RAM's device and inode in
    return request;
}

void resident_requests() {
    using namespace resident;
    Seed log;
    append_request(log, start_request(), Kind::kStart, 0);
    for (const int byte : {0xf8, 5, 0, 0xf9, 9, 0}) append_byte(log, static_cast<size_t>(byte));
    append_request(log, Request{}, Kind::kCollect, 0);
    append_request(log, ClearRequest{.begin_page = 3, .end_page = 40}, Kind::kClear, 0);
    append_request(log, ListRequest{}, Kind::kSlots, 0);
    append_request(log, ListRequest{}, Kind::kViews, 0);
    append_request(log, Request{}, Kind::kState, 0);
    append_request(log, Request{}, Kind::kStop, 0);
    put("resident_requests", "log", log);
    Seed throttle;
    append_request(throttle, ThrottleRequest{.held_percent = 20}, Kind::kThrottle, 0);
    append_request(throttle, ThrottleRequest{.held_percent = 20}, Kind::kThrottle, 1);
    append_request(throttle, ThrottleRequest{.held_percent = 100}, Kind::kThrottle, 2);
    put("resident_requests", "throttle", throttle);
    Seed others;
    append_request(others, start_request(), Kind::kStart, 1);
    append_request(others, start_request(), Kind::kStart, 0);
    append_request(others, start_request(), Kind::kStart, 1 + 3 * 4);  // another memory
    append_request(others, Request{}, Kind::kCollect, 2);
    put("resident_requests", "two-agents", others);
    Seed slots;
    append_request(slots, start_request(), Kind::kStart, 0);
    for (const int byte : {0xf1, 0, 20, 0xf1, 0, 0, 0xf0, 10, 9, 0xf3, 1, 90})
        append_byte(slots, static_cast<size_t>(byte));
    append_request(slots, Request{}, Kind::kCollect, 0);
    put("resident_requests", "slots-change", slots);
    Seed discards;
    StartRequest request = start_request();
    request.flags = kDiscardsOnly;
    append_request(discards, request, Kind::kStart, 0);
    append_request(discards, Request{}, Kind::kCollect, 0);
    put("resident_requests", "discards", discards);
}

template <typename Body>
void append_reply(Seed& seed, size_t call, resident::Kind kind, const Body& body = {}) {
    Body reply = body;
    reply.header = {.kind = kind, .length = sizeof reply};
    append_byte(seed, call);
    append_byte(seed, 0);
    append(seed, std::span(&reply, 1));
}

Seed greeting() {
    Seed seed;
    resident::Reply reply;
    reply.header = {.length = sizeof reply};
    append_byte(seed, 0);
    append(seed, std::span(&reply, 1));
    return seed;
}

void resident_replies() {
    using namespace resident;
    Seed session = greeting();
    append_reply<StateReply>(session, 0, Kind::kState);
    append_reply<Reply>(session, 3, Kind::kStart);
    append_reply<Reply>(session, 4, Kind::kCollect);
    append_reply<Reply>(session, 5, Kind::kClear);
    append_reply<Reply>(session, 7, Kind::kThrottle);
    append_reply<Reply>(session, 6, Kind::kStop);
    put("resident_replies", "session", session);
    Seed lists = greeting();
    ViewsReply views{};
    views.total = 18;
    views.count = 16;
    append_reply(lists, 1, Kind::kViews, views);
    views.count = 2;
    append_reply(lists, 1, Kind::kViews, views);
    put("resident_replies", "views", lists);
    Seed slots = greeting();
    SlotsReply reply{};
    reply.total = reply.count = 3;
    append_reply(slots, 2, Kind::kSlots, reply);
    put("resident_replies", "slots", slots);
    put("resident_replies", "greeting", greeting());
}

// --- gRPC -----------------------------------------------------------------------------------

void put_message(size_t which, const std::string& name, const std::string& bytes) {
    Seed seed;
    append_byte(seed, which);
    append(seed, bytes);
    put("api_requests", name, seed);
}

v1::VmSpec spec() {
    v1::VmSpec spec;
    spec.set_name("web");
    spec.set_uuid("01234567-89ab-cdef-0123-456789abcdef");
    spec.set_memory_bytes(Bytes{1} << 30);
    spec.set_vcpus(2);
    spec.set_machine("pc-q35-7.2");
    spec.set_kernel("/boot/vmlinuz");
    spec.set_append("console=ttyS0");
    spec.add_disks()->set_path("/d/web.qcow2");
    spec.mutable_disks(0)->set_format("qcow2");
    spec.add_nics()->set_mac("52:54:00:00:00:01");
    for (uint32_t node = 0; node < 2; ++node) {
        spec.add_numa()->set_memory_bytes(Bytes{512} << 20);
        spec.mutable_numa(static_cast<int>(node))->add_vcpus(node);
    }
    spec.mutable_hotplug()->set_slots(4);
    spec.mutable_hotplug()->set_max_memory_bytes(Bytes{4} << 30);
    return spec;
}

void api_requests() {
    v1::StartVmRequest start;
    *start.mutable_spec() = spec();
    put_message(0, "start-vm", start.SerializeAsString());
    v1::PrepareRequest prepare;
    *prepare.mutable_spec() = spec();
    prepare.set_migration_id("m-1");
    prepare.set_streams(2);
    prepare.add_blocks()->set_size_bytes(Bytes{1} << 30);
    put_message(1, "prepare", prepare.SerializeAsString());
    prepare.mutable_spec()->Clear();
    prepare.mutable_spec()->set_name("web");
    prepare.mutable_spec()->set_domain_xml(
        "<domain type='kvm'><name>web</name><uuid>u</uuid><memory>1024</memory></domain>");
    put_message(1, "prepare-domain", prepare.SerializeAsString());
    v1::MigrateRequest migrate;
    migrate.set_vm("web");
    migrate.set_destination("[::1]:7654");
    migrate.set_migration_id("m-1");
    put_message(2, "migrate-defaults", migrate.SerializeAsString());
    migrate.set_strategy("precopy");
    migrate.set_tracker("uffd-wp");
    migrate.set_downtime_limit_us(50'000);
    migrate.set_max_rounds(30);
    migrate.set_max_data(3);
    migrate.set_on_no_converge(v1::ON_NO_CONVERGE_THROTTLE);
    migrate.set_bandwidth_bytes_per_s(1 << 20);
    migrate.set_streams(2);
    migrate.set_finish_by_ms(30'000);
    migrate.set_compression("lz4");
    migrate.set_delta_cache_bytes(1 << 26);
    put_message(2, "migrate", migrate.SerializeAsString());
    v1::MeasureDirtyRateRequest rate;
    rate.set_name("web");
    rate.add_windows_us(50'000);
    rate.add_windows_us(1'000'000);
    put_message(3, "dirty-rate", rate.SerializeAsString());
    v1::StopVmRequest stop;
    stop.set_name("web");
    stop.set_timeout_ms(30'000);
    put_message(4, "stop", stop.SerializeAsString());
    v1::LimitRequest limit;
    limit.set_migration("web");
    limit.set_bandwidth_bytes_per_s(125'000'000);
    put_message(4, "limit", limit.SerializeAsString());
    const grpc::Status error = to_grpc(absl::NotFoundError("no VM web"), untouched("NOT_FOUND"));
    put_message(5, "error", error.error_details());
    v1::MigrationReport report;
    report.set_vm("web");
    report.mutable_postcopy();
    put_message(5, "report", report.SerializeAsString());
    v1::PlanRequest plan;
    plan.set_vm("web");
    plan.set_destination("10.0.0.2:7654");
    plan.set_sample_us(10'000'000);
    plan.set_downtime_limit_us(20'000);
    plan.set_finish_by_ms(60'000);
    put_message(6, "plan", plan.SerializeAsString());
    put_message(7, "calibration",
                R"({"version":1,"pairs":[{"destination":"b:1","migrations":[{"total_ms":5000,)"
                R"("wire_bytes":"300","predicted":{"predicted_by":"plan","total_ms":{"mid":4000}},)"
                R"("costs":{"setup_ms":200,"pause_ms":15,"fault_us":97}}]}]})");
    v1::RecordDirtyRequest record;
    record.set_name("web");
    record.set_duration_ms(60'000);
    record.set_window_us(100'000);
    put_message(8, "record-dirty", record.SerializeAsString());
    v1::DirtyRecording recording;
    recording.mutable_set()->set_time_ns(100'000'000);
    for (const uint64_t number : {5, 2, 10, 1}) recording.mutable_set()->add_runs(number);
    put_message(8, "dirty-set", recording.SerializeAsString());
}

void state_files() {
    Seed word;
    for (const int byte : {0, 1, 0, 0, 0}) append_byte(word, static_cast<size_t>(byte));
    put("state_files", "word", word);
    Seed bits;  // at 16384: the first pages of the first block
    for (const int byte : {2, 0, 0x40, 3, 0xff, 0x0f, 0x80}) append_byte(bits, byte & 0xff);
    put("state_files", "missing", bits);
    Seed stats;
    for (const int byte : {2, 0, 0x10, 4, 9, 0, 0, 1}) append_byte(stats, byte & 0xff);
    put("state_files", "stats", stats);
    Seed head;
    for (const int byte : {2, 12, 0, 1, 3}) append_byte(head, byte & 0xff);
    put("state_files", "damaged-head", head);
    Seed foreign;
    append_byte(foreign, 1);
    append(foreign, std::string("GDWTMISS"));
    put("state_files", "short", foreign);
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: fuzz-seeds CORPORA\nExample: fuzz-seeds tests/fuzz/corpus\n";
        return 2;
    }
    godwit::g_corpora = argv[1];
    godwit::frames();
    godwit::pages();
    godwit::resident_requests();
    godwit::resident_replies();
    godwit::api_requests();
    godwit::state_files();
    return 0;
}
