#include "bench/lab/floor_engine.h"

#include <unistd.h>

#include <algorithm>

namespace godwit {

FloorEngine::FloorEngine(const LabSetup& setup)
    : setup_(setup), file_(setup.mounts->file_path(v1::MEMORY_BACKING_THP, "floor-ram")) {}

FloorEngine::~FloorEngine() {
    destination_.reset();
    source_.reset();
    ::unlink(file_.c_str());
}

absl::Status FloorEngine::start_guest() {
    GODWIT_ASSIGN_OR_RETURN(board_, EventBoard::create(setup_.cancel_fd));
    GODWIT_RETURN_IF_ERROR(
        setup_.mounts->create_file(v1::MEMORY_BACKING_THP, file_, setup_.guest.memory));
    GODWIT_ASSIGN_OR_RETURN(source_, Peer::start({.program = setup_.qemu,
                                                  .wrapper = setup_.hosts[0].wrapper,
                                                  .guest = setup_.guest,
                                                  .ram_file = file_},
                                                 Side::kSource, *board_));
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, mailbox());
    return wait_until_running(reader, setup_.cancel_fd);
}

std::vector<std::shared_ptr<TickSource>> FloorEngine::ticks() {
    return {std::make_shared<FileTicks>(file_)};
}

absl::StatusOr<std::string> FloorEngine::prepare() {
    GODWIT_ASSIGN_OR_RETURN(destination_, Peer::start({.program = setup_.qemu,
                                                       .wrapper = setup_.hosts[1].wrapper,
                                                       .guest = setup_.guest,
                                                       .ram_file = file_,
                                                       .incoming = true,
                                                       .paused = true},
                                                      Side::kDestination, *board_));
    const std::vector<std::string> both{"events", "x-ignore-shared", "late-block-activate"};
    GODWIT_RETURN_IF_ERROR(destination_->set_capabilities(both));
    GODWIT_ASSIGN_OR_RETURN(std::string uri, destination_->listen(setup_.hosts[1].address));
    GODWIT_RETURN_IF_ERROR(source_->set_capabilities(both));
    GODWIT_RETURN_IF_ERROR(source_->set_capabilities({"pause-before-switchover"}));
    // As the agent sets them: neither pacing nor QEMU's own estimate may delay device state.
    GODWIT_RETURN_IF_ERROR(
        source_
            ->command("migrate-set-parameters", {{"max-bandwidth", int64_t{1} << 40},
                                                 {"downtime-limit", 2'000'000},
                                                 {"announce-rounds", 0}})
            .status());
    return uri;
}

absl::StatusOr<Metrics> FloorEngine::move() {
    const MonotonicTime requested = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(const std::string uri, prepare());
    const MonotonicTime begun = Clock::system().now();
    GODWIT_RETURN_IF_ERROR(source_->command("migrate", {{"uri", uri}}).status());
    return follow(requested, begun);
}

absl::StatusOr<Metrics> FloorEngine::follow(MonotonicTime requested, MonotonicTime begun) {
    const MonotonicTime deadline = begun + setup_.limit;
    const auto wait = [&](Side side, std::string_view name, std::string_view status) {
        return board_->wait({.side = side, .name = name, .status = status}, deadline);
    };
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent quiet,
                            wait(Side::kSource, "MIGRATION", "pre-switchover"));
    GODWIT_RETURN_IF_ERROR(
        source_->command("migrate-continue", {{"state", "pre-switchover"}}).status());
    // The handover's rule (DESIGN: COMMIT needs both): loaded there, and completed here.
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent saved, wait(Side::kSource, "MIGRATION", "completed"));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent loaded,
                            wait(Side::kDestination, "MIGRATION", "completed"));
    GODWIT_RETURN_IF_ERROR(destination_->command("cont").status());
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent resume, wait(Side::kDestination, "RESUME", ""));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent stop, wait(Side::kSource, "STOP", ""));
    const SeenEvent& ready = saved.stamp > loaded.stamp ? saved : loaded;
    return Metrics{{"total_ms", to_ms(resume.at - requested)},
                   {"prepare_ms", to_ms(begun - requested)},
                   {"downtime_ms", ms_between(stop, resume)},
                   {"stop_to_quiet_ms", ms_between(stop, quiet)},
                   {"device_state_ms", ms_between(quiet, ready)},
                   {"commit_ms", ms_between(ready, resume)}};
}

absl::StatusOr<MailboxReader> FloorEngine::mailbox() { return MailboxReader::open(file_); }

}  // namespace godwit
