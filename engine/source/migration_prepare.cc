// SourceMigration: its first part, until the destination is ready and all streams are there.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/base/hash.h"
#include "engine/guest/disks/same_disks.h"
#include "engine/source/auto_streams.h"
#include "engine/source/handover.h"
#include "engine/source/source_migration.h"
#include "engine/source/tracking.h"
#include "engine/verify/ram_hash.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

// The destination's QEMU is ready 26–50 ms after its start; a loaded host takes longer.
constexpr Duration kPrepareLimit = std::chrono::seconds(30);
constexpr Duration kStreamsLimit = std::chrono::seconds(5);

absl::StatusOr<std::unique_ptr<VcpuThrottle>> make_throttle(const ThrottleFactory& make, Vm& vm) {
    absl::StatusOr<std::unique_ptr<VcpuThrottle>> throttle = make(vm);
    if (throttle.ok()) return throttle;
    return absl::FailedPreconditionError(
        fmt::format("{}; take --on-no-converge postcopy or stop-and-copy",
                    std::string(throttle.status().message())));
}

// Only live rounds find out how many help.
uint32_t streams_to_open(const MigrationSettings& settings, Bytes touched) {
    if (settings.streams != kAutoStreams) return settings.streams;
    const Strategy strategy = settings.limits.strategy;
    const bool live = strategy == Strategy::kPrecopy || strategy == Strategy::kHybrid;
    return static_cast<uint32_t>(live ? AutoStreams::to_open(touched) : AutoStreams::kFirst);
}

}  // namespace

// QEMU refuses to plug memory while its own migration runs: the freeze closes the gap behind this.
absl::Status SourceMigration::check_memory(Vm& vm) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<std::string> plugged, vm.plugged_memory());
    if (plugged.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(fmt::format(
        "memory was plugged into the running VM ({}), which Godwit can't move yet: unplug it",
        fmt::join(plugged, ", ")));
}

absl::Status SourceMigration::prepare(SourceContext& context) {
    Vm& vm = context.vm;
    GODWIT_ASSIGN_OR_RETURN(const RunState state, vm.run_state());
    if (state == RunState::kPostMigrate)
        return absl::FailedPreconditionError(fmt::format(
            "VM {} was paused when an earlier migration failed, and its QEMU migrates it "
            "again only after it has run: let it run first",
            vm_name_));
    if (state != RunState::kRunning && state != RunState::kPaused)
        return absl::FailedPreconditionError(
            fmt::format("VM {} neither runs nor is paused", vm_name_));
    was_running_ = state == RunState::kRunning;
    context.record.set_was_running(was_running_);
    GODWIT_ASSIGN_OR_RETURN(const std::vector<std::string> blockers, vm.migration_blockers());
    if (!blockers.empty())
        return absl::FailedPreconditionError(
            fmt::format("QEMU can't migrate this VM: {}", fmt::join(blockers, "; ")));
    GODWIT_RETURN_IF_ERROR(check_memory(vm));
    if (settings_.undefine_source) GODWIT_RETURN_IF_ERROR(vm.spec_to_move(true).status());
    for (const RamBlock& block : vm.ram_blocks())
        context.report.set_ram_bytes(context.report.ram_bytes() + block.size);

    if (may_throttle(settings_)) {
        GODWIT_ASSIGN_OR_RETURN(context.throttle, make_throttle(dependencies_.make_throttle, vm));
    }
    GODWIT_ASSIGN_OR_RETURN(context.tracker,
                            dependencies_.make_tracker(vm, settings_.tracker, context.report));
    name_tracker(*context.tracker, context.report);
    GODWIT_ASSIGN_OR_RETURN(const v1::PrepareRequest request, prepare_request(context));
    context.record.set_streams(request.streams());
    context.report.set_streams_opened(request.streams());
    *context.record.mutable_report() = context.report;
    GODWIT_RETURN_IF_ERROR(context.journal.write(context.record, Journal::Durability::kPageCache));

    // It loads while the destination prepares. Where it can't be had the freeze tries again, and
    // says why.
    launch_guard(context).IgnoreError();
    const MonotonicTime begin = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(const v1::PrepareResponse response,
                            context.peer.prepare(request, kPrepareLimit, untouched_));
    untouched_ = false;
    prepared_ = true;
    context.may_switch =
        settings_.limits.strategy != Strategy::kStopAndCopy && response.postcopy_problem().empty();
    {
        const std::lock_guard lock(drain_mutex_);
        no_switch_ = response.postcopy_problem();
    }
    context.report.set_prepare_ms(to_ms(Clock::system().now() - begin));
    for (std::string& disk : unchecked_disks(request.disks(), response.disks())) {
        log_.message("prepare", disk);
        context.report.add_unchecked_disks(std::move(disk));
    }
    if (signals_.seen().cancelled) return absl::CancelledError("cancelled");
    GODWIT_ASSIGN_OR_RETURN(
        context.streams,
        SourceStreams::connect({.migration_id = settings_.id,
                                .host = settings_.destination.host,
                                .port = static_cast<uint16_t>(response.data_port()),
                                .session_token = response.session_token(),
                                .stream_count = static_cast<uint16_t>(request.streams()),
                                .limiter = &limiter_,
                                .tcp = context.tcp,
                                .source_addresses = settings_.source_addresses,
                                .compression = settings_.compression,
                                .chunk_counts = chunk_counts(vm.ram_blocks())},
                               signals_, Clock::system().now() + kStreamsLimit));
    context.tries_streams =
        settings_.streams == kAutoStreams && request.streams() > AutoStreams::kFirst;
    if (context.tries_streams) context.streams->use(AutoStreams::kFirst);
    context.report.set_streams(static_cast<uint32_t>(context.streams->in_use()));
    GODWIT_ASSIGN_OR_RETURN(context.sender,
                            RoundSender::create(vm.ram_blocks(), *context.streams, *context.tracker,
                                                {.page_hashes = settings_.page_hashes,
                                                 .delta_cache_bytes = settings_.delta_cache_bytes,
                                                 .placement = context.placement,
                                                 .streams_are_settled = !context.tries_streams}));
    return absl::OkStatus();
}

absl::StatusOr<v1::PrepareRequest> SourceMigration::prepare_request(const SourceContext& context) {
    v1::PrepareRequest request;
    request.set_protocol_version(kProtocolVersion);
    request.set_migration_id(settings_.id);
    GODWIT_ASSIGN_OR_RETURN(*request.mutable_spec(),
                            context.vm.spec_to_move(settings_.with_definition));
    for (const std::string& path :
         {context.vm.spec().kernel(), context.vm.spec().initrd(), context.vm.spec().firmware()}) {
        if (path.empty()) continue;
        GODWIT_ASSIGN_OR_RETURN(const Hash128 hash, hash_file(path));
        v1::BootFile& file = *request.add_boot_files();
        file.set_path(path);
        file.set_hash(to_hex(hash));
    }
    if (!settings_.unsafe) {
        GODWIT_ASSIGN_OR_RETURN(*request.mutable_disks(),
                                identities_of(context.vm.spec(), this_host()));
    }
    for (const RamBlock& block : context.vm.ram_blocks()) {
        v1::RamBlockInfo& info = *request.add_blocks();
        info.set_name(block.name);
        info.set_size_bytes(block.size);
    }
    GODWIT_ASSIGN_OR_RETURN(const uint64_t touched, allocated_pages(context.vm.ram_blocks()));
    request.set_touched_bytes(touched * kPageBytes);
    request.set_streams(streams_to_open(settings_, touched * kPageBytes));
    request.set_hypervisor_version(dependencies_.hypervisor_version);
    request.set_source(dependencies_.own_address);
    request.set_postcopy(may_use_postcopy(settings_) ? v1::POSTCOPY_USE_NEEDED
                         : settings_.limits.strategy == Strategy::kPrecopy
                             ? v1::POSTCOPY_USE_IF_POSSIBLE
                             : v1::POSTCOPY_USE_NEVER);
    return request;
}

}  // namespace godwit
