#include "engine/model/dirty_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <string_view>

#include "engine/base/hash.h"
#include "engine/base/units.h"

namespace godwit {
namespace {

constexpr std::string_view kTraceMagic = "GODWDIRT";
constexpr uint16_t kTraceVersion = 1;
constexpr uint64_t kMostTraceBlocks = 64;
constexpr size_t kFixedHeader = 24;
constexpr size_t kRecordHead = 24;
constexpr size_t kChecksum = 8;
constexpr uint8_t kDirtySetRecord = 1;
constexpr uint8_t kEndRecord = 2;

template <typename Number>
void append(std::string& out, Number value) {
    for (size_t i = 0; i < sizeof(Number); ++i)
        out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
}

uint64_t number_at(std::string_view bytes, size_t at, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i)
        value |= uint64_t{static_cast<uint8_t>(bytes[at + i])} << (8 * i);
    return value;
}

void append_varint(std::string& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
}

// Takes a number off the front; false where it is cut off or longer than 64 bits.
bool take_varint(std::string_view& bytes, uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 63; shift += 7) {
        if (bytes.empty()) return false;
        const auto byte = static_cast<uint8_t>(bytes.front());
        bytes.remove_prefix(1);
        value |= uint64_t{byte & 0x7FU} << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

uint64_t checksum_of(std::string_view text) {
    return checksum_bytes(std::as_bytes(std::span(text)));
}

// Appends exactly `size` bytes; the stream may be shorter.
bool read_more(std::istream& in, std::string& to, size_t size) {
    const size_t before = to.size();
    to.resize(before + size);
    in.read(to.data() + before, static_cast<std::streamsize>(size));
    return static_cast<size_t>(in.gcount()) == size;
}

absl::Status check_header(const TraceHeader& header) {
    if (header.block_pages.empty() || header.block_pages.size() > kMostTraceBlocks)
        return absl::InvalidArgumentError(fmt::format("A dirty trace has 1 to {} blocks, not {}",
                                                      kMostTraceBlocks, header.block_pages.size()));
    uint64_t sum = 0;
    for (const uint64_t pages : header.block_pages) {
        if (pages > kMostTracePages || sum + pages > kMostTracePages)
            return absl::InvalidArgumentError("A dirty trace has at most 2^32 pages");
        sum += pages;
    }
    if (header.touched_pages > sum)
        return absl::InvalidArgumentError("A dirty trace has more touched pages than pages");
    return absl::OkStatus();
}

absl::Status cut_off(std::string_view where) {
    return absl::DataLossError(
        fmt::format("The dirty trace is cut off in {}; record it again", where));
}

// The runs of a body; false where they do not make sense.
bool decode_runs(std::string_view body, uint64_t page_count, DirtyRecord& record) {
    uint64_t at = 0;
    uint64_t sum = 0;
    while (!body.empty()) {
        uint64_t gap = 0;
        uint64_t count = 0;
        if (!take_varint(body, gap) || !take_varint(body, count)) return false;
        if (count == 0 || gap > page_count - at || count > page_count - at - gap) return false;
        if (gap == 0 && !record.runs.empty()) return false;
        record.runs.push_back({at + gap, count});
        at += gap + count;
        sum += count;
    }
    return sum == record.page_count;
}

}  // namespace

uint64_t TraceHeader::page_count() const {
    uint64_t sum = 0;
    for (const uint64_t pages : block_pages) sum += pages;
    return sum;
}

absl::Status trace_not_written() {
    constexpr const char* kWhat = "Cannot write the dirty trace";
    return absl::DataLossError(errno == 0 ? kWhat
                                          : std::string(errno_status(errno, kWhat).message()));
}

absl::StatusOr<TraceWriter> TraceWriter::begin(std::ostream& out, const TraceHeader& header) {
    GODWIT_RETURN_IF_ERROR(check_header(header));
    std::string bytes(kTraceMagic);
    append(bytes, kTraceVersion);
    append(bytes, static_cast<uint16_t>(header.block_pages.size()));
    append(bytes, static_cast<uint32_t>(kPageBytes));
    append(bytes, header.touched_pages);
    for (const uint64_t pages : header.block_pages) append(bytes, pages);
    append(bytes, checksum_of(bytes));
    errno = 0;
    out << bytes;
    if (!out) return trace_not_written();
    return TraceWriter(out, header.page_count());
}

absl::Status TraceWriter::add(const DirtyRecord& record) {
    if (record.time_ns <= time_ns_)
        return absl::InvalidArgumentError("The times of a dirty trace do not grow");
    std::string body;
    uint64_t at = 0;
    uint64_t sum = 0;
    for (const PageRun& run : record.runs) {
        const bool touches = sum > 0 && run.first == at;
        if (run.first < at || touches || run.count == 0 || run.first > page_count_ ||
            run.count > page_count_ - run.first)
            return absl::InvalidArgumentError("A dirty set's runs are out of order or range");
        append_varint(body, run.first - at);
        append_varint(body, run.count);
        at = run.first + run.count;
        sum += run.count;
    }
    if (body.size() > kMostTraceBody)
        return absl::ResourceExhaustedError(
            fmt::format("A dirty set takes {}: record shorter windows", format_bytes(body.size())));
    time_ns_ = record.time_ns;
    ++records_;
    return put(kDirtySetRecord, record.time_ns, sum, body);
}

absl::Status TraceWriter::finish() { return put(kEndRecord, time_ns_, records_, {}); }

absl::Status TraceWriter::put(uint8_t kind, uint64_t time_ns, uint64_t count,
                              const std::string& body) {
    std::string bytes;
    append(bytes, uint32_t{kind});  // and three zeros
    append(bytes, static_cast<uint32_t>(body.size()));
    append(bytes, time_ns);
    append(bytes, count);
    bytes += body;
    append(bytes, checksum_of(bytes));
    errno = 0;
    *out_ << bytes;
    if (!*out_) return trace_not_written();
    return absl::OkStatus();
}

absl::StatusOr<TraceReader> TraceReader::begin(std::istream& in) {
    std::string bytes;
    const bool whole = read_more(in, bytes, kFixedHeader);
    if (bytes.substr(0, kTraceMagic.size()) != kTraceMagic)
        return absl::InvalidArgumentError(
            "This is no dirty trace: it does not begin with GODWDIRT; make one with `godwit vm "
            "record-dirty`");
    if (!whole) return cut_off("its header");
    const uint64_t version = number_at(bytes, 8, 2);
    const uint64_t blocks = number_at(bytes, 10, 2);
    if (version != kTraceVersion)
        return absl::InvalidArgumentError(fmt::format(
            "The dirty trace has version {}; this program knows {}", version, kTraceVersion));
    if (blocks == 0 || blocks > kMostTraceBlocks)
        return absl::DataLossError("The dirty trace's header is damaged");
    if (!read_more(in, bytes, blocks * 8 + kChecksum)) return cut_off("its header");
    const size_t end = bytes.size() - kChecksum;
    if (checksum_of(std::string_view(bytes).substr(0, end)) != number_at(bytes, end, kChecksum))
        return absl::DataLossError("The dirty trace's header is damaged: wrong checksum");
    if (number_at(bytes, 12, 4) != kPageBytes)
        return absl::InvalidArgumentError("The dirty trace does not count pages of 4096 bytes");
    TraceHeader header{.touched_pages = number_at(bytes, 16, 8)};
    for (uint64_t i = 0; i < blocks; ++i)
        header.block_pages.push_back(number_at(bytes, kFixedHeader + i * 8, 8));
    GODWIT_RETURN_IF_ERROR(check_header(header));
    return TraceReader(in, std::move(header));
}

absl::Status TraceReader::damaged(const std::string& how) const {
    return absl::DataLossError(
        fmt::format("Record {} of the dirty trace is damaged: {}", records_, how));
}

absl::StatusOr<std::optional<DirtyRecord>> TraceReader::next() {
    if (ended_) return std::nullopt;
    std::string bytes;
    const std::string where = fmt::format("record {}", records_);
    if (!read_more(*in_, bytes, kRecordHead)) return cut_off(where);
    const uint64_t kind = number_at(bytes, 0, 4);
    const uint64_t size = number_at(bytes, 4, 4);
    if (kind != kDirtySetRecord && kind != kEndRecord) return damaged("it is of no known kind");
    if (size > kMostTraceBody) return damaged("it is too long");
    if (!read_more(*in_, bytes, size + kChecksum)) return cut_off(where);
    const size_t end = bytes.size() - kChecksum;
    if (checksum_of(std::string_view(bytes).substr(0, end)) != number_at(bytes, end, kChecksum))
        return damaged("wrong checksum");
    DirtyRecord record{.time_ns = number_at(bytes, 8, 8), .page_count = number_at(bytes, 16, 8)};
    if (kind == kEndRecord) {
        if (size != 0 || record.page_count != records_ || record.time_ns != time_ns_)
            return damaged("the end does not fit what came before");
        ended_ = true;
        return std::nullopt;
    }
    if (record.time_ns <= time_ns_) return damaged("time does not grow");
    if (!decode_runs(std::string_view(bytes).substr(kRecordHead, size), header_.page_count(),
                     record))
        return damaged("its runs are out of order or range");
    time_ns_ = record.time_ns;
    ++records_;
    return record;
}

absl::StatusOr<DirtyTrace> read_trace(std::istream& in) {
    GODWIT_ASSIGN_OR_RETURN(TraceReader reader, TraceReader::begin(in));
    DirtyTrace trace{.header = reader.header()};
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(std::optional<DirtyRecord> record, reader.next());
        if (!record) break;
        trace.records.push_back(*std::move(record));
    }
    if (trace.records.empty())
        return absl::InvalidArgumentError("There is no dirty data in the trace: record for longer");
    return trace;
}

}  // namespace godwit
