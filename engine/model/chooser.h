// Which strategy, codec and number of streams a migration should take, and why. Pure: what
// `godwit plan` measures goes in, the table and the sentence that it prints come out.
//
// For each strategy, the codec and the smallest number of streams whose expected total time is
// within 2 % of the best; of codecs the first, unless a later one saves its least_gain. Then the
// first strategy of the list that holds every limit with the high end of its interval; the list is
// by how little the guest feels: stop-and-copy (nothing, where the whole RAM fits the pause),
// precopy, hybrid (faults for a little while), postcopy (faults all the while).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/model/working_set.h"

namespace godwit {

// One way to put pages on the wire, as measured between the two hosts.
struct CodecOption {
    std::string name;             // "raw", "lz4", "zstd"
    double wire_share = 1;        // wire bytes per page byte
    double stream_page_rate = 0;  // page bytes per second that one stream manages
    double cpu_s_per_page_byte = 0;
    // What migrations reached of the rate that link and streams come to.
    double rate_share = 1;
    // The part of the total time that it must save over those before it in the list.
    double least_gain = 0;
};

// What migrations came to, as multiples of what was expected of them: the least and the most that
// is to be reckoned with. An interval is widened to hold both.
struct ErrorRange {
    double low = 1;
    double high = 1;
};
// A forecast that was more wrong than this says nothing.
inline constexpr double kWorstError = 1000;

struct ForecastErrors {
    ErrorRange total;
    ErrorRange downtime;
    ErrorRange wire_bytes;
};

struct PlanInput {
    std::vector<DirtySample> samples;
    double touched_pages = 0;
    Interval link_rate;  // wire bytes per second
    std::vector<CodecOption> codecs;
    uint32_t max_streams = 8;
    // Streams that have no CPU for themselves share those that there are: with vCPUs that are busy
    // alike while the guest runs, among themselves in the pause. What follows after the resume is
    // taken to have as many as the rounds: the guest is busy at the destination then. 0: there are
    // enough.
    uint32_t source_cpus = 0;
    double busy_vcpus = 0;
    double skipped_share = 0;
    double fault_share = 1;
    double zero_share = 0;  // of the touched pages
    // Between reading and the link, as WorkingSetInput has it, by each stream; where few are
    // wanted, two are used all the same (engine/source has it so).
    double read_ahead_chunks = 0;
    double read_ahead_pages = 0;
    bool rearms_as_read = false;
    double first_write_s = 0;  // as WorkingSetInput has it
    Backing backing = Backing::kTmpfs4k;
    MigrationCosts costs;
    ConvergenceLimits limits;  // strategy is overwritten; downtime_limit is the one to hold
    double finish_by_s = 0;    // 0: no limit
    ForecastErrors errors;
};

struct PlanRow {
    Forecast forecast;
    std::string codec;
    uint32_t streams = 1;
    double page_rate = 0;  // R, expected while the guest runs, of stop-and-copy in the pause
    bool holds = false;    // every limit, at the high end
    std::string verdict;   // a whole clause: what holds, or the first limit that does not
    std::string choice;    // the same: why this codec and so many streams
};

struct Plan {
    std::vector<PlanRow> rows;     // one for each strategy, in the order of the list above
    std::optional<size_t> chosen;  // none: no strategy holds the limits
    std::string sentence;          // "yes: …" or "no: …", with the reason
};

// Errors: InvalidArgument where there are no samples, codecs or streams, or a number is absurd
// (of `errors`: beyond kWorstError).
absl::StatusOr<Plan> make_plan(const PlanInput& input);

}  // namespace godwit
