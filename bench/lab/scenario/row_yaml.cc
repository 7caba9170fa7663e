#include "bench/lab/scenario/row_yaml.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bench/lab/scenario/sweep.h"

namespace godwit {
namespace {

using Words = std::initializer_list<std::string_view>;

constexpr size_t kMostGuests = 16;

std::string one_of(const YamlFields& fields, const char* key, const std::string& otherwise,
                   Words known) {
    const auto value = fields.text(key);
    if (!value) return otherwise;
    if (std::find(known.begin(), known.end(), *value) != known.end()) return *value;
    fields.fault(key, fmt::format("\"{}\" is none of {}", *value, fmt::join(known, ", ")));
    return otherwise;
}

// A knob that goes to `godwit migrate` as it is; a mistake in it is found before anything runs.
struct Knob {
    const char* key;
    const char* flag;
    absl::Status (*check)(const std::string& value);
};

absl::Status is_number(const std::string& value) {
    if (!value.empty() && value.find_first_not_of("0123456789.x") == std::string::npos)
        return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format("\"{}\" is no number", value));
}
absl::Status is_size(const std::string& value) { return parse_bytes(value).status(); }
absl::Status is_time(const std::string& value) { return parse_duration(value).status(); }
absl::Status is_word(const std::string& value) {
    const bool plain = std::all_of(value.begin(), value.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
    if (plain && !value.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format("\"{}\" is no plain word", value));
}

constexpr std::array<Knob, 9> kKnobs{{{"streams", "--streams", is_number},
                                      {"compression", "--compress", is_word},
                                      {"delta_cache", "--delta-cache", is_size},
                                      {"on_no_converge", "--on-no-converge", is_word},
                                      {"max_rounds", "--max-rounds", is_number},
                                      {"max_data", "--max-data", is_number},
                                      {"threshold", "--threshold", is_size},
                                      {"finish_by", "--finish-by", is_time},
                                      {"congestion_control", "--congestion-control", is_word}}};

void read_godwit(const YamlFields& fields, Row& row) {
    row.engine.kind = EngineKind::kGodwit;
    row.engine.strategy =
        one_of(fields, "strategy", "hybrid", {"hybrid", "precopy", "postcopy", "stop-and-copy"});
    row.engine.text = "godwit-" + row.engine.strategy;
    row.tracker = one_of(fields, "tracker", "auto", {"auto", "uffd-wp", "kvm-dirty-log"});
    row.guest.backing = one_of(fields, "memory", row.guest.backing, {"thp", "4k", "hugetlb-2M"});
    for (const Knob& knob : kKnobs) {
        const auto value = fields.text(knob.key);
        if (!value) continue;
        if (const absl::Status status = knob.check(*value); !status.ok())
            fields.fault(knob.key, std::string(status.message()));
        row.migrate_flags.insert(row.migrate_flags.end(), {knob.flag, *value});
    }
    if (!fields.boolean("page_hashes").value_or(true))
        row.migrate_flags.emplace_back("--no-page-hashes");
    if (fields.boolean("verify").value_or(false)) row.migrate_flags.emplace_back("--verify");
}

void read_qemu(const YamlFields& fields, Row& row) {
    const std::string mode =
        one_of(fields, "mode", "precopy",
               {"precopy", "multifd", "xbzrle", "auto-converge", "postcopy", "preempt"});
    const std::string codec = one_of(fields, "compression", "none", {"none", "zlib", "zstd"});
    const std::string memory = one_of(fields, "memory", "private", {"private", "shared"});
    const auto passes = fields.number("passes");
    if (mode != "multifd" && (codec != "none" || fields.number("channels")))
        fields.fault(codec != "none" ? "compression" : "channels", "is for mode multifd only");
    if (mode != "postcopy" && mode != "preempt" && passes)
        fields.fault("passes", "is for post-copy only");
    const std::string text =
        fmt::format("qemu-{}{}{}{}", mode, codec == "none" ? "" : "-" + codec,
                    memory == "shared" ? "-shared" : "", passes ? fmt::format("@{}", *passes) : "");
    const auto engine = parse_engine(text);
    if (!engine.ok())
        fields.fault("mode", std::string(engine.status().message()));
    else
        row.engine = *engine;
    row.engine.channels =
        static_cast<int>(std::clamp<uint32_t>(fields.number("channels").value_or(2), 1, 255));
    if (const auto step = fields.number("throttle_step")) {
        row.qemu_parameters["cpu-throttle-initial"] = *step;
        row.qemu_parameters["cpu-throttle-increment"] = *step;
    }
    if (const auto cache = fields.bytes("cache")) row.qemu_parameters["xbzrle-cache-size"] = *cache;
}

void read_libvirt(const YamlFields& fields, Row& row) {
    const std::string mode =
        one_of(fields, "mode", "precopy", {"precopy", "parallel", "auto-converge", "postcopy"});
    row.engine = *parse_engine("libvirt-" + mode);
    if (mode != "parallel" && fields.number("channels"))
        fields.fault("channels", "is for mode parallel only");
    row.engine.channels =
        static_cast<int>(std::clamp<uint32_t>(fields.number("channels").value_or(2), 1, 255));
}

// Of each guest what it writes: "2000 500 idle". The first one is watched, and so must write.
void read_rates(const YamlFields& fields, Row& row) {
    const std::string text = fields.text("rates").value_or("");
    for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
        GuestConfig guest = row.guest;
        guest.idle = word == "idle";
        if (!guest.idle &&
            (!absl::SimpleAtoi(word, &guest.writes_per_s) || guest.writes_per_s == 0))
            return fields.fault("rates", fmt::format("\"{}\" is neither idle nor a number of pages "
                                                     "a second above 0",
                                                     std::string(word)));
        row.fleet.push_back(std::move(guest));
    }
    if (row.fleet.size() < 2 || row.fleet.size() > kMostGuests || row.fleet[0].idle)
        return fields.fault(
            "rates",
            fmt::format("2 to {} of them, the first not idle: \"2000 500 idle\"", kMostGuests));
    row.guest = row.fleet[0];
}

void read_fleet(const YamlFields& fields, Row& row) {
    read_godwit(fields, row);
    row.engine.kind = EngineKind::kFleet;
    row.engine.schedule = one_of(fields, "schedule", "auto", {"auto", "serial", "parallel"});
    row.engine.text = "fleet-" + row.engine.schedule;
    read_rates(fields, row);
}

void read_micro(const YamlFields& fields, Row& row) {
    row.micro.program =
        one_of(fields, "program", "",
               {"tracker_bench", "transport_micro_bench", "fault_bench", "bitmap_bench"});
    row.micro.name = fields.text("case").value_or("");
    for (const auto& [key, value] :
         {std::pair{"program", row.micro.program}, {"case", row.micro.name}})
        if (value.empty()) fields.fault(key, "is missing");
    row.engine = {.text = "micro-" + row.micro.name, .kind = EngineKind::kMicro};
}

void read_other(const YamlFields& fields, const std::string& engine, Row& row) {
    row.engine = *parse_engine(engine);
    if (engine != "stay") return;
    const std::string memory =
        one_of(fields, "memory", "private", {"private", "thp", "4k", "hugetlb-2M"});
    row.engine.shared = memory != "private";
    if (row.engine.shared) row.guest.backing = memory;
    row.engine.text = "stay-" + memory;
}

CpuLatencyLimit read_cpu_latency(const YamlFields& fields) {
    const auto value = fields.text("cpu_latency");
    if (!value) return std::nullopt;
    const absl::StatusOr<CpuLatencyLimit> limit = parse_cpu_latency(*value);
    if (limit.ok()) return *limit;
    fields.fault("cpu_latency", std::string(limit.status().message()));
    return std::nullopt;
}

// Keys that the engine's own name says already.
bool in_name(const std::string& engine, const std::string& key) {
    if (engine != "fleet" && key == "strategy") return true;
    if (key == "engine" || key == "mode" || key == "passes") return true;
    if (engine == "qemu") return key == "memory" || key == "compression";
    if (engine == "micro") return key == "program" || key == "case";
    if (engine == "fleet") return key == "schedule" || key == "rates";
    return engine == "stay" && key == "memory";
}

std::string label_of(const std::string& engine, const Row& row, const YAML::Node& values) {
    std::string label = row.engine.text;
    for (const auto& entry : values) {
        const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
        if (in_name(engine, key)) continue;
        if (entry.second.IsScalar()) label += fmt::format(",{}={}", key, entry.second.Scalar());
        if (!entry.second.IsMap()) continue;
        for (const auto& inner : entry.second)
            if (inner.first.IsScalar() && inner.second.IsScalar())
                label += fmt::format(",{}={}", inner.first.Scalar(), inner.second.Scalar());
    }
    return label;
}

Row read_row(YamlFile& file, const YAML::Node& values, const std::string& field, const Row& base) {
    const YAML::Node kind = values.IsMap() ? values["engine"] : YAML::Node();
    const std::string engine = kind && kind.IsScalar() ? kind.Scalar() : "";
    Row row = base;
    const auto fields = [&]() -> YamlFields {
        if (engine == "fleet")
            return {file,
                    values,
                    field,
                    {"engine", "schedule", "rates", "strategy", "tracker", "memory",
                     "on_no_converge", "bandwidth", "downtime_limit", "guest"}};
        if (engine == "godwit")
            return {
                file,
                values,
                field,
                {"engine", "strategy", "tracker", "memory", "streams", "compression", "delta_cache",
                 "page_hashes", "verify", "on_no_converge", "max_rounds", "max_data", "threshold",
                 "finish_by", "congestion_control", "bandwidth", "downtime_limit", "guest"}};
        if (engine == "qemu")
            return {
                file,
                values,
                field,
                {"engine", "mode", "memory", "channels", "compression", "passes", "throttle_step",
                 "cache", "cpu_latency", "bandwidth", "downtime_limit", "guest"}};
        if (engine == "libvirt")
            return {file,
                    values,
                    field,
                    {"engine", "mode", "channels", "cpu_latency", "bandwidth", "downtime_limit",
                     "guest"}};
        if (engine == "micro") return {file, values, field, {"engine", "program", "case"}};
        if (engine == "stay") return {file, values, field, {"engine", "memory", "guest"}};
        if (engine == "floor") return {file, values, field, {"engine", "cpu_latency", "guest"}};
        return {file, values, field, {"engine", "guest"}};
    }();
    if (const YAML::Node guest = fields.child("guest"); !guest.IsNull())
        row.guest = read_guest(file, guest, field + ".guest", row.guest);
    if (engine == "godwit")
        read_godwit(fields, row);
    else if (engine == "qemu")
        read_qemu(fields, row);
    else if (engine == "libvirt")
        read_libvirt(fields, row);
    else if (engine == "fleet")
        read_fleet(fields, row);
    else if (engine == "micro")
        read_micro(fields, row);
    else if (engine == "floor" || engine == "copy" || engine == "stay")
        read_other(fields, engine, row);
    else
        fields.fault(
            "engine",
            fmt::format("\"{}\" is none of godwit, fleet, qemu, libvirt, floor, copy, stay, micro",
                        engine));
    row.cpu_latency = read_cpu_latency(fields);
    row.bandwidth = read_rate(fields, "bandwidth", row.bandwidth);
    row.downtime_limit = read_duration(fields, "downtime_limit", row.downtime_limit);
    row.label = label_of(engine, row, values);
    return row;
}

}  // namespace

Duration read_duration(const YamlFields& fields, const char* key, Duration otherwise) {
    const auto value = fields.text(key);
    if (!value) return otherwise;
    const auto duration = parse_duration(*value);
    if (duration.ok()) return *duration;
    fields.fault(key, std::string(duration.status().message()));
    return otherwise;
}

Bytes read_rate(const YamlFields& fields, const char* key, Bytes otherwise) {
    const auto value = fields.text(key);
    if (!value) return otherwise;
    const auto rate = parse_rate(*value);
    if (rate.ok()) return *rate;
    fields.fault(key, std::string(rate.status().message()));
    return otherwise;
}

GuestConfig read_guest(YamlFile& file, const YAML::Node& node, const std::string& field,
                       GuestConfig base) {
    const YamlFields fields(
        file, node, field,
        {"memory", "ws", "rate", "fill", "change", "pattern", "sweep", "place", "service"});
    GuestConfig guest = std::move(base);
    guest.memory = fields.bytes("memory").value_or(guest.memory);
    guest.working_set = fields.bytes("ws").value_or(guest.working_set);
    guest.service = fields.boolean("service").value_or(guest.service);
    if (const auto rate = fields.text("rate")) {
        guest.idle = *rate == "idle";
        const bool flat_out = *rate == "flat-out";
        guest.writes_per_s = guest.idle || flat_out ? 0 : fields.number("rate").value_or(0);
    }
    for (const char* key : {"fill", "change", "pattern", "sweep", "place"}) {
        const auto value = fields.text(key);
        if (!value) continue;
        if (value->find_first_of(" \"\\,") != std::string::npos)
            fields.fault(key, "must be one word");
        guest.content += fmt::format("{}{}={}", guest.content.empty() ? "" : " ", key, *value);
    }
    return guest;
}

std::vector<Row> read_rows(YamlFile& file, const YAML::Node& entry, const std::string& field,
                           const Row& base) {
    std::vector<Row> rows;
    for (const SweepPoint& point : sweep(entry)) {
        const YAML::Node guest =
            point.values.IsMap() ? point.values["guest"] : YAML::Node(YAML::NodeType::Null);
        if (!guest || !guest.IsMap()) {
            rows.push_back(read_row(file, point.values, field, base));
            continue;
        }
        for (const SweepPoint& inner : sweep(guest)) {
            if (rows.size() > kMaxRowsOfFile) return rows;
            YAML::Node values(YAML::NodeType::Map);
            for (const auto& pair : point.values)
                if (!pair.first.IsScalar() || pair.first.Scalar() != "guest")
                    values.force_insert(pair.first, pair.second);
            values.force_insert("guest", inner.values);
            rows.push_back(read_row(file, values, field, base));
        }
    }
    return rows;
}

}  // namespace godwit
