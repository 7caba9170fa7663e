#include "bench/lab/prediction/cell_run.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "bench/lab/godwit_engine.h"
#include "bench/lab/guest_checks.h"
#include "bench/lab/warm_memory.h"

namespace godwit {
namespace {

constexpr int kFrom = 0;
constexpr int kTo = 1;
constexpr Duration kAnswerLimit = std::chrono::seconds(60);
constexpr uint64_t kTurnsAfterCell = 5;

std::string calibration_path(const AgentPair& agents) {
    return agents.directory(kFrom) + "/calibration.json";
}

absl::StatusOr<nlohmann::json> ask(AgentPair& agents, const std::vector<std::string>& words) {
    GODWIT_ASSIGN_OR_RETURN(const CommandOutcome said, agents.run(kFrom, words, kAnswerLimit));
    nlohmann::json answer = nlohmann::json::parse(said.out, nullptr, false);
    if (said.exit_code == 0 && answer.is_object()) return answer;
    // The plan's own "no" is an answer as well.
    if (answer.is_object() && answer.contains("rows")) return answer;
    if (answer.is_object() && answer.contains("outcome")) return answer;
    return absl::FailedPreconditionError(
        fmt::format("godwit {}: exit code {}: {}", words.front(), said.exit_code, said.err));
}

std::vector<std::string> plan_words(const GridCell& cell, const std::string& vm,
                                    const AgentPair& agents, Duration sample) {
    const auto us = [](Duration duration) {
        return fmt::format("{}us",
                           std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
    };
    return {"plan",
            vm,
            "--to",
            agents.address(kTo),
            "--sample",
            us(sample),
            "--downtime-limit",
            us(cell.downtime_limit),
            "--json"};
}

bool gave_up(const GridCell& cell, const nlohmann::json& report) {
    return cell.otherwise == "fail" && report.value("outcome", "") == "failed" &&
           report.value("guest_at", "") == "source" &&
           !report.value("rounds", nlohmann::json::array()).empty();
}

}  // namespace

absl::StatusOr<nlohmann::json> run_cell(const GridCell& cell, const LabSetup& shared,
                                        Duration sample) {
    LabSetup setup = shared;
    setup.downtime_limit = cell.downtime_limit;
    if (!cell.otherwise.empty()) setup.migrate_flags = {"--on-no-converge", cell.otherwise};
    GodwitEngine engine(cell.strategy, setup);
    GODWIT_RETURN_IF_ERROR(engine.start_guest());
    nlohmann::json line;
    GODWIT_ASSIGN_OR_RETURN(
        line["plan"], ask(*setup.agents, plan_words(cell, engine.vm(), *setup.agents, sample)));
    GODWIT_RETURN_IF_ERROR(well_before(engine));
    {
        GODWIT_ASSIGN_OR_RETURN(
            const auto warm,
            WarmMemory::hold(memory_of_move(setup.guest.working_set), setup.cancel_fd));
        const absl::Status moved = engine.move().status();
        if (absl::IsCancelled(moved)) return moved;
        GODWIT_ASSIGN_OR_RETURN(line["report"],
                                ask(*setup.agents, {"report", engine.vm(), "--json"}));
        if (!moved.ok() && !gave_up(cell, line["report"])) return moved;
    }
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
    GODWIT_RETURN_IF_ERROR(
        goes_on(engine, mailbox.vcpus[0].tick, kTurnsAfterCell, setup.cancel_fd));
    return line;
}

absl::Status put_calibration(AgentPair& agents, nlohmann::json calibration) {
    agents.stop(kFrom);
    for (nlohmann::json& pair : calibration["pairs"]) pair["destination"] = agents.address(kTo);
    std::ofstream out(calibration_path(agents), std::ios::trunc);
    out << calibration.dump();
    out.close();
    if (!out)
        return absl::UnavailableError(fmt::format("Cannot write {}", calibration_path(agents)));
    return agents.start();
}

nlohmann::json take_calibration(const AgentPair& agents) {
    std::ifstream in(calibration_path(agents));
    if (!in) return nullptr;
    nlohmann::json calibration = nlohmann::json::parse(in, nullptr, false);
    return calibration.is_object() ? calibration : nlohmann::json();
}

}  // namespace godwit
