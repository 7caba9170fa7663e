#include "tools/godwit/plan_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/units.h"

namespace godwit {
namespace {

std::string bytes_text(double bytes) {
    return format_bytes(static_cast<Bytes>(std::clamp(bytes, 0.0, 1e18)));
}

std::string seconds(const v1::Interval& ms) {
    return fmt::format("{:.2f} s ({:.2f}-{:.2f})", ms.mid() / 1e3, ms.low() / 1e3, ms.high() / 1e3);
}

std::string milliseconds(const v1::Interval& ms) {
    return fmt::format("{:.1f} ms ({:.1f}-{:.1f})", ms.mid(), ms.low(), ms.high());
}

std::string sizes(const v1::Interval& bytes) {
    return fmt::format("{} ({}-{})", bytes_text(bytes.mid()), bytes_text(bytes.low()),
                       bytes_text(bytes.high()));
}

std::string measured_text(const v1::PlanMeasurements& measured) {
    const v1::FixedCosts& costs = measured.costs();
    std::string text = fmt::format(
        "{} touched, {:.0f} % of it zeros; of the rest lz4 leaves {:.0f} %, zstd {:.0f} %; written "
        "pages by {}{}{}\n",
        format_bytes(measured.touched_bytes()), measured.zero_share() * 100,
        measured.lz4_wire_share() * 100, measured.zstd_wire_share() * 100, measured.tracker(),
        measured.tracker_reason().empty() ? "" : ", since ", measured.tracker_reason());
    for (const v1::DirtyWindow& window : measured.windows())
        if (&window == &*measured.windows().rbegin())
            text += fmt::format("{} pages were written in {:.1f} s ({} windows)\n",
                                window.dirty_pages(), window.window_ms() / 1e3,
                                measured.windows_size());
    const v1::Interval& link = measured.link_bytes_per_s();
    text += fmt::format("link {}/s ({}-{}) with {} streams, {}/s with one, round trip {:.2f} ms\n",
                        bytes_text(link.mid()), bytes_text(link.low()), bytes_text(link.high()),
                        measured.link_streams(), bytes_text(measured.stream_bytes_per_s()),
                        measured.round_trip_ms());
    text += fmt::format(
        "fixed costs: {:.0f} ms beside the rounds, {:.1f} ms a pause, {:.2f} ms a "
        "round, {:.0f} us a fault ({})\n",
        costs.setup_ms(), costs.pause_ms(), costs.per_round_ms(), costs.fault_us(),
        measured.costs_from_migrations() == 0
            ? "no migration between these hosts is known: defaults"
            : fmt::format("of {} migrations between these hosts",
                          measured.costs_from_migrations()));
    return text;
}

}  // namespace

std::string plan_text(const v1::Plan& plan) {
    std::string text = measured_text(plan.measured());
    text += fmt::format("{:<14} {:<6} {:>7}  {:<28} {:<28} {:<34} {:>14}  {}\n", "strategy",
                        "codec", "streams", "total", "downtime", "on the wire", "CPU", "converges");
    for (const v1::PlanRow& row : plan.rows())
        text += fmt::format("{:<14} {:<6} {:>7}  {:<28} {:<28} {:<34} {:>14}  {}\n", row.strategy(),
                            row.codec(), row.streams(), seconds(row.total_ms()),
                            milliseconds(row.downtime_ms()), sizes(row.wire_bytes()),
                            fmt::format("{:.2f} s ({:.2f}-{:.2f})", row.cpu_s().mid(),
                                        row.cpu_s().low(), row.cpu_s().high()),
                            row.rounds() == 0 ? "no rounds"
                            : row.converges() ? "yes"
                                              : "no");
    for (const v1::PlanRow& row : plan.rows())
        text += fmt::format("{}: {}; {}\n", row.strategy(), row.verdict(), row.choice());
    for (const std::string& note : plan.notes()) text += fmt::format("note: {}\n", note);
    return text + plan.sentence() + "\n";
}

std::string calibration_text(const v1::Calibration& calibration) {
    if (calibration.pairs_size() == 0) return "no migration of this agent is known\n";
    std::string text;
    for (const v1::HostPair& pair : calibration.pairs()) {
        text += fmt::format("to {}\n{:<20} {:<14} {:<9} {:>21} {:>21} {:>25}\n", pair.destination(),
                            "migration", "strategy", "by", "total s", "downtime ms", "on the wire");
        for (const v1::CalibrationEntry& entry : pair.migrations()) {
            const v1::Prediction& predicted = entry.predicted();
            const bool none = predicted.predicted_by().empty();
            const auto both = [&](const std::string& expected, const std::string& came) {
                return fmt::format("{} -> {}", none ? "?" : expected, came);
            };
            text += fmt::format(
                "{:<20} {:<14} {:<9} {:>21} {:>21} {:>25}{}\n", entry.migration_id(),
                entry.strategy(), none ? "-" : predicted.predicted_by(),
                both(fmt::format("{:.2f}", predicted.total_ms().mid() / 1e3),
                     fmt::format("{:.2f}", entry.total_ms() / 1e3)),
                both(fmt::format("{:.1f}", predicted.downtime_ms().mid()),
                     fmt::format("{:.1f}", entry.downtime_ms())),
                both(bytes_text(predicted.wire_bytes().mid()), format_bytes(entry.wire_bytes())),
                entry.verified() ? "  (with verify: not learnt from)" : "");
        }
    }
    return text;
}

std::string prediction_text(const v1::MigrationReport& report) {
    const v1::Prediction& predicted = report.prediction();
    return fmt::format("predicted by {}: total {}, downtime {}, {} on the wire\n",
                       predicted.predicted_by(), seconds(predicted.total_ms()),
                       milliseconds(predicted.downtime_ms()), sizes(predicted.wire_bytes()));
}

}  // namespace godwit
