#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "bench/lab/scenario/row_yaml.h"
#include "bench/lab/scenario/scenario.h"
#include "bench/lab/scenario/sweep.h"

namespace godwit {
namespace {

// A packet must fit, and tc(8) has 32 bits.
constexpr Bytes kLeastBurst = Bytes{4} << 10;
constexpr Bytes kMostBurst = Bytes{1} << 30;
constexpr Bytes kMostBurstSeconds = 60;

LinkConfig read_link(YamlFile& file, const YAML::Node& node) {
    LinkConfig link;
    if (node.IsNull() || (node.IsScalar() && node.Scalar() == "loopback")) return link;
    const YamlFields fields(file, node, "link", {"rate", "burst", "delay"});
    link.bytes_per_s = read_rate(fields, "rate", 0);
    link.burst = fields.bytes("burst").value_or(0);
    if (link.burst > 0 && link.bytes_per_s == 0) fields.fault("burst", "wants a rate");
    if (link.burst > 0 && (link.burst < kLeastBurst || link.burst > kMostBurst))
        fields.fault("burst", "must be from 4KiB to 1GiB");
    else if (link.burst > 0 && link.burst / kMostBurstSeconds > link.bytes_per_s)
        fields.fault("burst", "is more than a minute at this rate");
    link.delay = read_duration(fields, "delay", {});
    return link;
}

std::vector<std::string> read_words(const YamlFields& fields, const char* key) {
    std::vector<std::string> words;
    for (const YAML::Node& item : fields.list(key))
        if (item.IsScalar()) words.push_back(item.Scalar());
    return words;
}

AskedTarget read_target(YamlFile& file, const YAML::Node& node, const std::string& field,
                        const std::set<std::string>& labels) {
    const YamlFields fields(
        file, node, field,
        {"metric", "ours", "peers", "slowest_of", "at_most", "at_least", "at_most_above", "issue"});
    AskedTarget asked{.issue = fields.text("issue").value_or("")};
    asked.target.metric = fields.text("metric").value_or("total_ms");
    asked.target.ours = fields.text("ours").value_or("");
    asked.slowest = !fields.list("slowest_of").empty();
    if (asked.slowest && !fields.list("peers").empty())
        fields.fault("slowest_of", "either this or peers");
    asked.target.peers = read_words(fields, asked.slowest ? "slowest_of" : "peers");
    const auto known = [&](const char* key, const std::string& label) {
        if (!labels.contains(label))
            fields.fault(key, fmt::format("there is no row \"{}\"; there are {}", label,
                                          fmt::join(labels, "; ")));
    };
    known("ours", asked.target.ours);
    for (const std::string& peer : asked.target.peers) known("peers", peer);
    const char* key = nullptr;
    int count = 0;
    for (const char* one : {"at_most", "at_least", "at_most_above"})
        if (fields.text(one)) {
            key = one;
            ++count;
        }
    if (count != 1) {
        fields.fault("at_most", "one of at_most, at_least, at_most_above");
        return asked;
    }
    asked.difference = key == std::string_view("at_most_above");
    asked.target.kind = key == std::string_view("at_least") ? Bound::kAtLeast : Bound::kAtMost;
    if (asked.difference && asked.target.peers.empty())
        fields.fault(key, "wants peers: above whom?");
    if (!YAML::convert<double>::decode(fields.child(key), asked.target.bound))
        fields.fault(key, "is no number");
    return asked;
}

Scenario read_frame(const YamlFields& fields) {
    Scenario scenario{.name = fields.text("name").value_or(""),
                      .about = fields.text("about").value_or("")};
    if (scenario.name.empty()) fields.fault("name", "is missing");
    if (scenario.name.find_first_of(" /,=") != std::string::npos)
        fields.fault("name", "must be one plain word");
    scenario.sets = read_words(fields, "sets");
    scenario.accel = fields.text("accel").value_or("auto");
    if (scenario.accel != "auto" && scenario.accel != "kvm" && scenario.accel != "tcg")
        fields.fault("accel", fmt::format("\"{}\" is none of auto, kvm, tcg", scenario.accel));
    scenario.watch = std::chrono::duration_cast<std::chrono::microseconds>(
        read_duration(fields, "watch", scenario.watch));
    if (scenario.watch < std::chrono::microseconds(20) ||
        scenario.watch > std::chrono::milliseconds(100))
        fields.fault("watch", "must be from 20us to 100ms");
    scenario.before = read_duration(fields, "before", scenario.before);
    scenario.after = read_duration(fields, "after", scenario.after);
    scenario.stay = read_duration(fields, "stay", scenario.before);
    scenario.limit = read_duration(fields, "limit", scenario.limit);
    scenario.repeats = static_cast<int>(fields.number("repeats").value_or(0));
    return scenario;
}

// Whether there can be such a guest; a micro-benchmark has none.
bool can_be(const Row& row) {
    if (row.engine.kind == EngineKind::kMicro) return true;
    GuestConfig guest = row.guest;
    // What it writes is its own affair.
    if (guest.service) guest.working_set = kPageBytes;
    return check_guest(guest).ok();
}

void check_service(YamlFile& file, int line, const Row& row, const Scenario& scenario) {
    if (!row.guest.service) return;
    if (!scenario.link.cable())
        file.fault(line, "link", "a guest with a service wants two hosts: say a rate");
    if (row.engine.kind == EngineKind::kFloor || row.engine.kind == EngineKind::kStay ||
        row.engine.kind == EngineKind::kCopy || row.engine.kind == EngineKind::kFleet)
        file.fault(line, "engines", "a guest with a service is for godwit, qemu and libvirt");
}

void read_engines(YamlFile& file, const YamlFields& fields, const GuestConfig& guest,
                  Scenario& scenario) {
    Row base{.guest = guest};
    base.bandwidth = read_rate(fields, "bandwidth", 0);
    base.downtime_limit = read_duration(fields, "downtime_limit", base.downtime_limit);
    std::set<std::string> labels;
    int index = 0;
    for (const YAML::Node& entry : fields.list("engines")) {
        if (scenario.rows.size() > kMaxRowsOfFile) break;
        for (Row& row : read_rows(file, entry, fmt::format("engines[{}]", index++), base)) {
            if (!can_be(row))
                file.fault(line_of(entry), "guest",
                           "memory must be a multiple of 2 MiB and ws whole pages");
            check_service(file, line_of(entry), row, scenario);
            if (!labels.insert(row.label).second)
                file.fault(line_of(entry), "engines",
                           fmt::format("there are two rows \"{}\"", row.label));
            scenario.rows.push_back(std::move(row));
        }
    }
    if (scenario.rows.empty()) fields.fault("engines", "there are none");
    index = 0;
    for (const YAML::Node& node : fields.list("targets"))
        scenario.targets.push_back(
            read_target(file, node, fmt::format("targets[{}]", index++), labels));
}

// `row_count`: of the file, so far.
std::vector<Scenario> read_document(YamlFile& file, const YAML::Node& document, size_t& row_count) {
    const YamlFields fields(
        file, document, "",
        {"name", "about", "sets", "accel", "guest", "link", "watch", "before", "after", "stay",
         "limit", "repeats", "bandwidth", "downtime_limit", "engines", "targets"});
    const Scenario frame = read_frame(fields);
    std::vector<Scenario> scenarios;
    for (const SweepPoint& guest : sweep(fields.child("guest")))
        for (const SweepPoint& link : sweep(fields.child("link"))) {
            if (!file.status().ok()) return scenarios;
            Scenario scenario = frame;
            for (const SweepPoint* point : {&guest, &link})
                if (const std::string name = sweep_name(*point); !name.empty())
                    scenario.name += "/" + name;
            scenario.link = read_link(file, link.values);
            const GuestConfig config =
                guest.values.IsNull() ? GuestConfig{} : read_guest(file, guest.values, "guest", {});
            read_engines(file, fields, config, scenario);
            row_count += scenario.rows.size();
            if (row_count > kMaxRowsOfFile)
                fields.fault("engines", fmt::format("there are more than {} rows", kMaxRowsOfFile));
            scenarios.push_back(std::move(scenario));
        }
    return scenarios;
}

}  // namespace

absl::StatusOr<std::vector<Scenario>> parse_scenarios(const std::string& text,
                                                      const std::string& path) {
    YamlFile file(path);
    std::vector<Scenario> scenarios;
    size_t row_count = 0;
    try {
        for (const YAML::Node& document : YAML::LoadAll(text)) {
            if (document.IsNull()) continue;
            for (Scenario& one : read_document(file, document, row_count))
                scenarios.push_back(std::move(one));
        }
    } catch (const YAML::Exception& error) {
        return absl::InvalidArgumentError(
            fmt::format("{}:{}: {}", path, std::max(error.mark.line, 0) + 1, error.msg));
    }
    GODWIT_RETURN_IF_ERROR(file.status());
    if (scenarios.empty())
        return absl::InvalidArgumentError(fmt::format("{}:1: there is no scenario in it", path));
    return scenarios;
}

}  // namespace godwit
