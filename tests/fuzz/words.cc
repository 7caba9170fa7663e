// What is typed after `godwit`: sizes, durations, rates, addresses, and whole requests.
#include "tools/godwit/words.h"

#include <cmath>
#include <string>

#include "bench/lab/engine_name.h"
#include "engine/base/check.h"
#include "engine/handover/journal.h"
#include "tests/fuzz/target.h"
#include "transport/control/peer.h"

namespace godwit {
namespace {

constexpr Bytes kMost = Bytes{1} << 63;

void read_values(const std::string& text) {
    if (const auto bytes = parse_bytes(text); bytes.ok()) {
        GODWIT_CHECK(*bytes <= kMost);
        GODWIT_CHECK(!format_bytes(*bytes).empty());
    }
    if (const auto duration = parse_duration(text); duration.ok())
        GODWIT_CHECK(duration->count() >= 0);
    if (const auto rate = parse_rate(text); rate.ok()) GODWIT_CHECK(*rate <= kMost);
    if (const auto bandwidth = parse_bandwidth(text); bandwidth.ok())
        GODWIT_CHECK(*bandwidth == 0 || *bandwidth >= 1024);
    if (const auto address = parse_host_port(text); address.ok()) {
        const auto again = parse_host_port(address->to_string());
        GODWIT_CHECK(again.ok() && again->host == address->host && again->port == address->port);
    }
    (void)is_valid_id(text);
    (void)parse_engine(text);
}

void make_requests(const std::string& text) {
    for (const auto field :
         {&Words::to, &Words::downtime_limit, &Words::threshold, &Words::max_data,
          &Words::finish_by, &Words::bandwidth, &Words::streams, &Words::bind, &Words::delta_cache,
          &Words::windows, &Words::on_no_converge, &Words::strategy}) {
        Words words{.name = "web", .to = "10.0.0.2:7654"};
        words.*field = text;
        if (const auto request = migrate_request(words); request.ok()) {
            GODWIT_CHECK(request->downtime_limit_us() >= 1 && request->streams() <= 16);
            GODWIT_CHECK(std::isfinite(request->max_data()) && request->max_data() >= 0);
        }
        words.planned_downtime_limit = words.downtime_limit;
        words.sample = text;
        if (const auto request = plan_request(words); request.ok())
            GODWIT_CHECK(request->sample_us() >= 100'000 && request->sample_us() <= 600'000'000);
        if (const auto request = dirty_rate_request(words); request.ok())
            for (const uint64_t window_us : request->windows_us())
                GODWIT_CHECK(window_us >= 1000 && window_us <= 600'000'000);
    }
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    const std::string text(FuzzInputReader(data, size).text());
    read_values(text);
    make_requests(text);
    return 0;
}
