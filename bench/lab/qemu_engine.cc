#include "bench/lab/qemu_engine.h"

#include <absl/strings/match.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "bench/guest/mailbox_layout.h"
#include "bench/lab/service_net.h"

namespace godwit {
namespace {

absl::Status has_capabilities(Peer& peer, const std::vector<std::string>& wanted) {
    GODWIT_ASSIGN_OR_RETURN(const Json known, peer.command("query-migrate-capabilities"));
    for (const std::string& name : wanted)
        if (std::none_of(known.begin(), known.end(), [&](const Json& capability) {
                return json_text(capability, "capability") == name;
            }))
            return absl::UnimplementedError(fmt::format("this QEMU has no \"{}\"", name));
    return absl::OkStatus();
}

}  // namespace

QemuEngine::QemuEngine(EngineName name, const LabSetup& setup)
    : name_(std::move(name)),
      setup_(setup),
      source_ticks_(std::make_shared<ProcessTicks>()),
      destination_ticks_(std::make_shared<ProcessTicks>()) {
    if (!name_.shared) return;
    source_file_ = setup_.mounts->file_path(memory_backing(setup.guest), "source-ram");
    destination_file_ = setup_.mounts->file_path(memory_backing(setup.guest), "destination-ram");
}

QemuEngine::~QemuEngine() {
    destination_.reset();
    source_.reset();
    for (const std::string& file : {source_file_, destination_file_})
        if (!file.empty()) ::unlink(file.c_str());
}

absl::StatusOr<std::unique_ptr<Peer>> QemuEngine::start_peer(Side side) {
    const bool source = side == Side::kSource;
    const std::string& file = source ? source_file_ : destination_file_;
    if (!file.empty())
        GODWIT_RETURN_IF_ERROR(
            setup_.mounts->create_file(memory_backing(setup_.guest), file, setup_.guest.memory));
    UniqueFd tap;
    if (!setup_.guest.bridge.empty()) {
        GODWIT_ASSIGN_OR_RETURN(tap, tap_at(setup_.hosts[source ? 0 : 1], setup_.guest.bridge));
    }
    GODWIT_ASSIGN_OR_RETURN(auto peer, Peer::start({.program = setup_.qemu,
                                                    .wrapper = setup_.hosts[source ? 0 : 1].wrapper,
                                                    .guest = setup_.guest,
                                                    .ram_file = file,
                                                    .tap_fd = tap.get(),
                                                    .incoming = !source},
                                                   side, *board_));
    if (!file.empty() || setup_.guest.service) return peer;
    uint64_t& mailbox = source ? source_mailbox_ : destination_mailbox_;
    GODWIT_ASSIGN_OR_RETURN(mailbox, peer->host_address(kMailboxAddress));
    if (!(source ? source_ticks_ : destination_ticks_)->show(peer->pid(), mailbox))
        return absl::PermissionDeniedError("Cannot read the memory of a QEMU of our own");
    return peer;
}

absl::Status QemuEngine::start_guest() {
    GODWIT_ASSIGN_OR_RETURN(board_, EventBoard::create(setup_.cancel_fd));
    GODWIT_ASSIGN_OR_RETURN(source_, start_peer(Side::kSource));
    if (setup_.guest.service) return absl::OkStatus();
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, mailbox());
    return wait_until_running(reader, setup_.cancel_fd);
}

std::vector<std::shared_ptr<TickSource>> QemuEngine::ticks() {
    if (!name_.shared) return {source_ticks_, destination_ticks_};
    return {std::make_shared<FileTicks>(source_file_),
            std::make_shared<FileTicks>(destination_file_)};
}

absl::StatusOr<std::string> QemuEngine::prepare() {
    GODWIT_ASSIGN_OR_RETURN(destination_, start_peer(Side::kDestination));
    const auto capabilities = qemu_capabilities(name_.mode);
    GODWIT_RETURN_IF_ERROR(has_capabilities(*destination_, capabilities));
    GODWIT_RETURN_IF_ERROR(destination_->set_capabilities(capabilities));
    Json parameters =
        qemu_parameters(name_.mode, setup_.bandwidth, setup_.downtime_limit, setup_.guest.memory);
    if (is_multifd(name_.mode)) parameters["multifd-channels"] = name_.channels;
    parameters.update(setup_.qemu_parameters);
    const absl::Status set = destination_->command("migrate-set-parameters", parameters).status();
    // A codec, say, that this QEMU was built without.
    if (absl::StrContains(set.message(), "does not accept value") ||
        absl::StrContains(set.message(), "unexpected"))
        return absl::UnimplementedError(fmt::format("this QEMU: {}", std::string(set.message())));
    GODWIT_RETURN_IF_ERROR(set);
    GODWIT_ASSIGN_OR_RETURN(std::string uri, destination_->listen(setup_.hosts[1].address));
    GODWIT_RETURN_IF_ERROR(source_->set_capabilities(capabilities));
    GODWIT_RETURN_IF_ERROR(source_->command("migrate-set-parameters", parameters).status());
    return uri;
}

absl::StatusOr<Metrics> QemuEngine::move() {
    const MonotonicTime requested = requested_ = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(const std::string uri, prepare());
    const MonotonicTime begun = Clock::system().now();
    GODWIT_RETURN_IF_ERROR(source_->command("migrate", {{"uri", uri}}).status());
    auto metrics = follow(requested, begun);
    if (metrics.ok() || absl::IsCancelled(metrics.status())) return metrics;
    return absl::Status(
        metrics.status().code(),
        fmt::format("{} [source: {}] [destination: {}]", std::string(metrics.status().message()),
                    source_->complaint(), destination_->complaint()));
}

absl::Status QemuEngine::begin_postcopy(MonotonicTime deadline) {
    // The pass that follows the last one of pre-copy.
    if (name_.passes > 0)
        GODWIT_RETURN_IF_ERROR(
            board_
                ->wait({.side = Side::kSource, .name = "MIGRATION_PASS", .pass = name_.passes + 1},
                       deadline)
                .status());
    return source_->command("migrate-start-postcopy").status();
}

absl::StatusOr<Metrics> QemuEngine::follow(MonotonicTime requested, MonotonicTime begun) {
    const MonotonicTime deadline = begun + setup_.limit;
    if (is_postcopy(name_.mode)) GODWIT_RETURN_IF_ERROR(begin_postcopy(deadline));
    const auto wait = [&](Side side, std::string_view name, std::string_view status) {
        return board_->wait({.side = side, .name = name, .status = status}, deadline);
    };
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent source_done,
                            wait(Side::kSource, "MIGRATION", "completed"));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent destination_done,
                            wait(Side::kDestination, "MIGRATION", "completed"));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent stop, wait(Side::kSource, "STOP", ""));
    GODWIT_ASSIGN_OR_RETURN(const SeenEvent resume, wait(Side::kDestination, "RESUME", ""));
    moved_ = true;
    const MonotonicTime done = std::max(source_done.at, destination_done.at);
    Metrics metrics{{"total_ms", to_ms(done - requested)},
                    {"prepare_ms", to_ms(begun - requested)},
                    {"downtime_ms", ms_between(stop, resume)}};
    if (is_postcopy(name_.mode)) metrics["drain_ms"] = std::max(0.0, to_ms(done - resume.at));
    return metrics;
}

absl::StatusOr<Metrics> QemuEngine::details() {
    GODWIT_ASSIGN_OR_RETURN(const Json source, source_->command("query-migrate"));
    GODWIT_ASSIGN_OR_RETURN(const Json destination, destination_->command("query-migrate"));
    series_ = qemu_series(board_->seen(), requested_, destination);
    return qemu_metrics(name_.mode, source, destination);
}

absl::StatusOr<MailboxReader> QemuEngine::mailbox() {
    if (name_.shared) return MailboxReader::open(moved_ ? destination_file_ : source_file_);
    return moved_ ? MailboxReader::open_process(destination_->pid(), destination_mailbox_)
                  : MailboxReader::open_process(source_->pid(), source_mailbox_);
}

}  // namespace godwit
