#include "tools/godwit/fleet_render.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/report/json.h"
#include "tools/godwit/render.h"

namespace godwit {
namespace {

std::string place(const FleetEnd& end) {
    return end.guest_at ? enum_word(*end.guest_at) : "unknown";
}

std::string_view retry(const FleetEnd& end) {
    return end.code == ExitCode::kDone ? "not needed" : end.retry_safe ? "safe" : "not safe";
}

double downtime_ms(const FleetEnd& end) { return end.report ? end.report->downtime_ms() : 0; }

std::string state_of(const FleetGuest& guest) {
    if (guest.step == FleetStep::kWaiting) return "waits";
    if (guest.step == FleetStep::kUnderWay && guest.is_ready &&
        (guest.phase == "ready" || guest.phase == "rounds"))
        return "ready";
    if (guest.step == FleetStep::kUnderWay)
        return guest.progress.total_pages() == 0
                   ? guest.phase.empty() ? "begins" : guest.phase
                   : fmt::format("{}  {}", guest.phase, progress_line(guest.progress));
    if (guest.end.code == ExitCode::kDone)
        return fmt::format("done, {:.1f} ms downtime", downtime_ms(guest.end));
    return fmt::format("{}, guest at {}: {}", guest.end.outcome, place(guest.end),
                       guest.end.reason);
}

std::string counts(const FleetBoard& board) {
    const size_t ended = board.count(FleetStep::kEnded);
    std::string text = fmt::format("{} of {} done", board.done(), board.guests().size());
    if (ended > board.done()) text += fmt::format(", {} not", ended - board.done());
    return text;
}

double seconds(Duration time) { return to_ms(time) / 1e3; }

std::string split_text(const FleetBoard& board) {
    std::string there;
    std::string others;
    for (const FleetGuest& guest : board.guests()) {
        std::string& names = guest.end.guest_at == v1::GUEST_AT_DESTINATION ? there : others;
        names += (names.empty() ? "" : ", ") + guest.vm;
    }
    return fmt::format("the gang is split: {} at the destination, {} not\n", there, others);
}

bool has_moved(const FleetGuest& guest) {
    return guest.end.report && guest.end.report->outcome() == v1::OUTCOME_DONE;
}

std::string summary_line(const FleetGuest& guest) {
    const FleetEnd& end = guest.end;
    std::string text = fmt::format("{:<20} {:<20} {:<10} {:<14} ", guest.vm, guest.migration_id,
                                   end.outcome, place(end));
    text += end.report ? fmt::format("{:>10.1f} ", end.report->total_ms()) : "         - ";
    return text + (has_moved(guest) ? fmt::format("{:>12.2f} {:>12}\n", downtime_ms(end),
                                                  format_bytes(end.report->wire_bytes()))
                                    : "           -            -\n");
}

// Empty: each kept it.
std::string over_limit_text(const FleetBoard& board, double limit_ms) {
    std::string names;
    for (const FleetGuest& guest : board.guests())
        if (has_moved(guest) && limit_ms > 0 && downtime_ms(guest.end) > limit_ms)
            names += (names.empty() ? "" : ", ") + guest.vm;
    return names.empty() ? names
                         : fmt::format("over the downtime limit of {:g} ms: {}\n", limit_ms, names);
}

nlohmann::ordered_json guest_json(const FleetGuest& guest) {
    const FleetEnd& end = guest.end;
    nlohmann::ordered_json json{{"vm", guest.vm},
                                {"migration_id", guest.migration_id},
                                {"outcome", end.outcome},
                                {"guest_at", nullptr},
                                {"retry_safe", end.retry_safe},
                                {"reason", end.reason},
                                {"exit_code", static_cast<int>(end.code)},
                                {"downtime_ms", nullptr},
                                {"total_ms", nullptr},
                                {"report", nullptr}};
    if (end.guest_at) json["guest_at"] = enum_word(*end.guest_at);
    if (!end.report) return json;
    if (has_moved(guest)) json["downtime_ms"] = end.report->downtime_ms();
    json["total_ms"] = end.report->total_ms();
    json["report"] = to_json(*end.report);
    return json;
}

}  // namespace

std::vector<std::string> fleet_table(const FleetBoard& board, Duration elapsed, FleetRoom room) {
    std::vector<std::string> lines;
    lines.push_back(fmt::format("{}, {} under way, {} wait; {:.1f} s", counts(board),
                                board.count(FleetStep::kUnderWay), board.count(FleetStep::kWaiting),
                                seconds(elapsed)));
    size_t widest = 8;
    for (const FleetGuest& guest : board.guests()) widest = std::max(widest, guest.vm.size());
    widest = std::min<size_t>(widest, 24);
    // Two lines stay free: for the cursor, and for how many there was no room.
    const size_t most = std::max<size_t>(room.rows, 5) - 3;
    size_t shown = 0;
    for (const FleetStep step : {FleetStep::kUnderWay, FleetStep::kWaiting, FleetStep::kEnded})
        for (const FleetGuest& guest : board.guests()) {
            if (guest.step != step || shown == most) continue;
            lines.push_back(fmt::format("{:<{}}  {}", guest.vm, widest, state_of(guest)));
            ++shown;
        }
    if (shown < board.guests().size())
        lines.push_back(fmt::format("and {} more", board.guests().size() - shown));
    for (std::string& line : lines) line = line.substr(0, std::max<size_t>(room.columns, 20));
    return lines;
}

std::string fleet_line(const FleetGuest& guest, const v1::MigrationEvent& event) {
    if (event.has_round()) return fmt::format("{}: {}", guest.vm, round_line(event.round()));
    if (event.what_case() == v1::MigrationEvent::kMessage)
        return fmt::format("{}: {}: {}", guest.vm, event.phase(), event.message());
    return {};
}

std::string fleet_verdict(const FleetGuest& guest) {
    const FleetEnd& end = guest.end;
    std::string text = fmt::format("{}: ", guest.vm);
    if (end.report) return text + verdict(*end.report);
    text += end.outcome;
    if (!end.reason.empty()) text += ": " + end.reason;
    text += !end.guest_at ? "; where the guest is, is not known"
                          : fmt::format("; the guest is at the {}", place(end));
    return text + fmt::format("; a retry is {}", retry(end));
}

std::string fleet_summary(const FleetBoard& board, const FleetFrame& frame) {
    std::string text = fmt::format("{:<20} {:<20} {:<10} {:<14} {:>10} {:>12} {:>12}\n", "VM", "ID",
                                   "OUTCOME", "GUEST AT", "TOTAL ms", "DOWNTIME ms", "SENT");
    for (const FleetGuest& guest : board.guests()) text += summary_line(guest);
    const FleetTimes& times = frame.times;
    text += fmt::format("{} in {:.2f} s, {}\n", counts(board), seconds(times.total),
                        frame.order.reason);
    if (times.sampling > Duration::zero())
        text +=
            fmt::format("before that, {:.2f} s to see what they write\n", seconds(times.sampling));
    if (const std::optional<double> outage = board.outage_ms())
        text += fmt::format("from the first pause to the last resume: {:.1f} ms\n", *outage);
    text += over_limit_text(board, frame.downtime_limit_ms);
    if (frame.order.is_gang && board.is_split()) text += split_text(board);
    return text;
}

nlohmann::ordered_json fleet_json(const FleetBoard& board, const FleetFrame& frame) {
    const FleetOrder& order = frame.order;
    nlohmann::ordered_json json{{"schedule", frame.schedule},
                                {"at_a_time", order.at_a_time},
                                {"order", order.vms},
                                {"reason", order.reason},
                                {"expected_ms", nullptr},
                                {"sampling_ms", to_ms(frame.times.sampling)},
                                {"total_ms", to_ms(frame.times.total)},
                                {"outage_ms", nullptr},
                                {"downtime_limit_ms", frame.downtime_limit_ms},
                                {"split", order.is_gang && board.is_split()},
                                {"done", board.done()},
                                {"not_done", board.guests().size() - board.done()},
                                {"left_out", nlohmann::ordered_json::array()},
                                {"guests", nlohmann::ordered_json::array()}};
    if (order.expected_s) json["expected_ms"] = *order.expected_s * 1e3;
    if (const std::optional<double> outage = board.outage_ms()) json["outage_ms"] = *outage;
    for (const LeftOut& one : frame.left_out)
        json["left_out"].push_back({{"vm", one.vm}, {"in_use_by", one.holder}});
    for (const FleetGuest& guest : board.guests()) json["guests"].push_back(guest_json(guest));
    return json;
}

}  // namespace godwit
