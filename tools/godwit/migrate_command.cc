#include "tools/godwit/migrate_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <thread>

#include "engine/base/wait.h"
#include "engine/report/json.h"
#include "tools/godwit/interrupts.h"
#include "tools/godwit/render.h"
#include "transport/control/error_detail.h"

namespace godwit {
namespace {

// After COMMIT a migration ends within ms; this long we wait for its report before we detach.
constexpr Duration kDetachPatience = std::chrono::seconds(3);

// Writes the line that is rewritten in place on a terminal; plain lines elsewhere.
class ProgressPrinter {
  public:
    explicit ProgressPrinter(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}

    void show(const v1::MigrationEvent& event) {
        if (quiet_) return;
        if (event.has_progress()) {
            if (terminal_) std::cerr << "\r\033[K" << progress_line(event.progress()) << std::flush;
            open_line_ = terminal_;
            return;
        }
        close_line();
        if (event.has_round()) std::cerr << round_line(event.round()) << std::endl;
        if (event.what_case() == v1::MigrationEvent::kMessage)
            std::cerr << event.phase() << ": " << event.message() << std::endl;
    }
    void close_line() {
        if (open_line_) std::cerr << "\r\033[K" << std::flush;
        open_line_ = false;
    }

  private:
    const bool quiet_;
    const bool terminal_;
    bool open_line_ = false;
};

}  // namespace

ExitCode print_error(const absl::Status& status, bool json) {
    if (json) std::cout << json_text(error_json(status)) << std::endl;
    std::cerr << "godwit: " << status.message() << std::endl;
    return exit_code_of(status);
}

ExitCode print_report(const v1::MigrationReport& report, bool json) {
    if (json)
        std::cout << json_text(to_json(report)) << std::endl;
    else if (report.rounds_size() > 0 || report.outcome() == v1::OUTCOME_DONE)
        std::cout << summary(report) << std::flush;
    if (report.outcome() == v1::OUTCOME_RUNNING) {
        if (!json)
            std::cout << fmt::format("migration {} is under way: godwit watch {}\n",
                                     report.migration_id(), report.migration_id())
                      << std::flush;
        return ExitCode::kDone;
    }
    std::cerr << "godwit: " << verdict(report) << std::endl;
    return exit_code_of(report);
}

ExitCode follow(AgentClient& agent, const std::string& migration, const FollowOptions& options) {
    const Interrupts interrupts;
    absl::StatusOr<Wakeup> finished = Wakeup::create();
    if (!finished.ok()) return print_error(finished.status(), options.json);
    std::atomic<bool> detach{false};
    std::jthread watcher_of_signals([&] {
        while (true) {
            // Only a signal detaches: a watch that has ended, well or badly, does not.
            if (!wait_readable(interrupts.fd(), finished->fd(), std::nullopt).ok()) return;
            interrupts.drain();
            if (!options.cancel_on_signal) break;
            std::cerr << "\ncancelling" << std::endl;
            const absl::Status status = agent.cancel(migration);
            if (status.ok()) continue;
            std::cerr << "godwit: " << status.message() << std::endl;
            // Too late to cancel: the report is on its way, or we leave.
            if (absl::IsCancelled(wait_readable(interrupts.fd(), finished->fd(),
                                                Clock::system().now() + kDetachPatience)))
                return;
            break;
        }
        detach = true;
    });
    ProgressPrinter printer(options.json);
    v1::MigrationReport report;
    bool ended = false;
    const absl::Status status = agent.watch(migration, [&](const v1::MigrationEvent& event) {
        printer.show(event);
        if (event.has_report()) {
            report = event.report();
            ended = true;
        }
        return !detach;
    });
    printer.close_line();
    finished->notify();
    if (ended) return print_report(report, options.json);
    if (detach) {
        std::cerr << fmt::format("godwit: detached; the migration goes on: godwit watch {}\n",
                                 migration);
        return options.cancel_on_signal ? ExitCode::kNeedsOperator : ExitCode::kDone;
    }
    if (!status.ok() && detail_of(status)) return print_error(status, options.json);
    if (!status.ok()) {
        std::cerr << fmt::format(
            "godwit: the agent went away: {}; it goes on, or its successor tells: godwit report "
            "{}\n",
            std::string(status.message()), migration);
        return ExitCode::kNeedsOperator;
    }
    std::cerr << "godwit: the agent is ending; ask again: godwit report " << migration << std::endl;
    return ExitCode::kNeedsOperator;
}

ExitCode run_migrate(AgentClient& agent, const v1::MigrateRequest& request, bool detach,
                     bool json) {
    const absl::StatusOr<std::string> id = agent.migrate(request);
    if (!id.ok()) {
        if (json) std::cout << json_text(error_json(id.status())) << std::endl;
        std::cerr << "godwit: " << refusal(id.status(), request.vm()) << std::endl;
        return detail_of(id.status()) ? exit_code_of(id.status()) : ExitCode::kNeedsOperator;
    }
    if (detach) {
        if (json)
            std::cout << nlohmann::ordered_json{{"migration_id", *id}}.dump() << std::endl;
        else
            std::cout << *id << std::endl;
        return ExitCode::kDone;
    }
    return follow(agent, *id, {.json = json, .cancel_on_signal = true});
}

}  // namespace godwit
