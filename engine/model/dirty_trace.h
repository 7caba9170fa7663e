// Dirty sets over time in a file: what `godwit vm record-dirty` writes and `godwit-sim` replays.
//
// Everything is little-endian. The file is a header and records; the last record is the end.
//   header    "GODWDIRT" · u16 version (1) · u16 block count (1 … 64) · u32 page bytes (4096) ·
//             u64 touched pages · u64 pages of each block · u64 XXH3-64 of all before
//   record    u8 kind (1: dirty set, 2: end) · u8[3] zero · u32 body bytes · u64 time [ns] ·
//             u64 page count · body · u64 XXH3-64 of all of the record before
//   dirty set page count distinct pages written since the record before, or since the start; time
//   is
//             the end of that window, and grows. The body is runs, as LEB128 numbers in pairs:
//             pages that were left out since the run before, pages of the run (at least 1). Pages
//             are numbered through all blocks in the header's order.
//   end       page count is the number of dirty sets before it, time that of the last; no body.
//             A file without it was cut off.
// A set of scattered pages takes 2 to 3 bytes a page, a dense one next to nothing.
//
// Writer and reader hold one record at a time. The reader believes nothing: every length is bounded
// before anything is allocated, and each error names the record.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "engine/base/status.h"

namespace godwit {

struct PageRun {
    uint64_t first = 0;
    uint64_t count = 0;
    bool operator==(const PageRun&) const = default;
};

struct TraceHeader {
    uint64_t touched_pages = 0;
    std::vector<uint64_t> block_pages;
    [[nodiscard]] uint64_t page_count() const;  // of all blocks
};

struct DirtyRecord {
    uint64_t time_ns = 0;       // end of the window, since the recording began
    uint64_t page_count = 0;    // of all runs; the writer counts by itself
    std::vector<PageRun> runs;  // ascending, not touching each other
};

inline constexpr uint64_t kMostTracePages = uint64_t{1} << 32;  // 16 TiB of RAM
inline constexpr uint32_t kMostTraceBody = 64U << 20;           // bytes of one record's runs

// DataLoss for a stream that has just failed, with the reason that its last system call left.
absl::Status trace_not_written();

// Not thread-safe. After an error the file is unusable.
class TraceWriter {
  public:
    // Writes the header. Errors: InvalidArgument (no or too many blocks or pages), DataLoss (the
    // stream failed).
    static absl::StatusOr<TraceWriter> begin(std::ostream& out, const TraceHeader& header);

    // Errors: InvalidArgument where runs are out of order or range or time does not grow;
    // ResourceExhausted for a set of more than kMostTraceBody; DataLoss.
    absl::Status add(const DirtyRecord& record);
    absl::Status finish();  // the end record; nothing may be added after it

  private:
    TraceWriter(std::ostream& out, uint64_t page_count) : out_(&out), page_count_(page_count) {}
    absl::Status put(uint8_t kind, uint64_t time_ns, uint64_t count, const std::string& body);

    std::ostream* out_;
    uint64_t page_count_;
    uint64_t time_ns_ = 0;
    uint64_t records_ = 0;
};

class TraceReader {
  public:
    // Errors: InvalidArgument (no trace, a version of the future), DataLoss (cut off, damaged).
    static absl::StatusOr<TraceReader> begin(std::istream& in);

    [[nodiscard]] const TraceHeader& header() const { return header_; }
    // The next dirty set; none: the end was read and is right. Errors: DataLoss.
    absl::StatusOr<std::optional<DirtyRecord>> next();

  private:
    TraceReader(std::istream& in, TraceHeader header) : in_(&in), header_(std::move(header)) {}
    absl::Status damaged(const std::string& how) const;

    std::istream* in_;
    TraceHeader header_;
    uint64_t time_ns_ = 0;
    uint64_t records_ = 0;
    bool ended_ = false;
};

// All of a trace at once. Errors: the reader's, and InvalidArgument where it has no dirty set.
struct DirtyTrace {
    TraceHeader header;
    std::vector<DirtyRecord> records;
};
absl::StatusOr<DirtyTrace> read_trace(std::istream& in);

}  // namespace godwit
