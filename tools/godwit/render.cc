#include "tools/godwit/render.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/units.h"
#include "engine/report/json.h"
#include "tools/godwit/plan_text.h"
#include "transport/control/error_detail.h"

namespace godwit {
namespace {

constexpr int kBarWidth = 20;

std::string rate(double bytes_per_s) {
    return format_bytes(static_cast<Bytes>(std::max(bytes_per_s, 0.0))) + "/s";
}

std::string part(const char* name, double ms) {
    return fmt::format("  {:<34}{:>10.2f} ms\n", name, ms);
}

std::string postcopy_text(const v1::Postcopy& drain) {
    std::string text =
        fmt::format("{:<36}{:>10.2f} ms for {} that were missing at the resume\n", "drain",
                    drain.drain_ms(), format_bytes(drain.missing_pages() * kPageBytes));
    text += fmt::format(
        "{} faults: p50 {:.0f} us, p90 {:.0f}, p99 {:.0f}, p99.9 {:.0f}, max {:.0f}; the guest "
        "waited {:.1f} ms, {:.1f} ms at once\n",
        drain.faults(), drain.latency_us().p50(), drain.latency_us().p90(),
        drain.latency_us().p99(), drain.latency_us().p999(), drain.latency_us().max(),
        drain.stall_ms(), drain.longest_stall_ms());
    text += fmt::format("pages: {} on demand, {} along with these, {} pushed, {} twice\n",
                        drain.demand_pages(), drain.prepaged_pages(), drain.pushed_pages(),
                        drain.duplicate_pages());
    if (drain.interruptions() > 0)
        text += fmt::format("interrupted {} times, {:.1f} s in all\n", drain.interruptions(),
                            drain.interrupted_ms() / 1e3);
    return text;
}

std::string native_summary(const v1::MigrationReport& report) {
    std::string text = fmt::format("moved by the hypervisor itself\n{:<36}{:>10.2f} ms\n", "total",
                                   report.total_ms());
    if (report.outcome() == v1::OUTCOME_DONE)
        text += fmt::format("{:<36}{:>10.2f} ms, as it says\n{} sent\n", "downtime",
                            report.downtime_ms(), format_bytes(report.wire_bytes()));
    for (const std::string& disk : report.unchecked_disks())
        text += fmt::format("not checked: {}\n", disk);
    for (const std::string& warning : report.warnings())
        text += fmt::format("warning: {}\n", warning);
    return text;
}

std::string streams_text(const v1::MigrationReport& report) {
    std::string text =
        fmt::format("{} of {} streams used; tried:", report.streams(), report.streams_opened());
    for (const v1::StreamSlice& slice : report.stream_slices())
        text += fmt::format(" {} ({})", slice.streams(), rate(slice.content_bytes_per_s()));
    return text + "\n";
}

}  // namespace

std::string progress_line(const v1::Progress& progress) {
    const double total = static_cast<double>(std::max<uint64_t>(progress.total_pages(), 1));
    const double share = std::min(static_cast<double>(progress.done_pages()) / total, 1.0);
    const int filled = static_cast<int>(share * kBarWidth);
    std::string line = fmt::format("round {:<3} [{:#<{}}{:.<{}}] {:3.0f} %", progress.round(), "",
                                   filled, "", kBarWidth - filled, share * 100);
    if (progress.rate_bytes_per_s() > 0)
        line += fmt::format("  {}  dirty {:.0f} pages/s  r {:.2f}  expected downtime {:.0f} ms",
                            rate(progress.rate_bytes_per_s()), progress.dirty_pages_per_s(),
                            progress.r(), progress.expected_downtime_ms());
    return line;
}

std::string round_line(const v1::Round& round) {
    return fmt::format(
        "round {:<3} {:>9} pages  {:>11} sent  {:>9.1f} ms  {:>13}  dirty {:>7.0f} pages/s  "
        "r {:5.2f}  expected downtime {:.1f} ms",
        round.index(), round.dirty_pages(), format_bytes(round.sent_bytes()), round.duration_ms(),
        rate(round.rate_bytes_per_s()), round.dirty_pages_per_s(), round.r(),
        round.expected_downtime_ms());
}

std::string summary(const v1::MigrationReport& report) {
    if (report.engine() == "native") return native_summary(report);
    std::string text =
        fmt::format("{:>5} {:>10} {:>10} {:>12} {:>10} {:>14} {:>12} {:>6}\n", "round", "pages",
                    "sent", "wire", "ms", "rate", "dirtied/s", "r");
    for (const v1::Round& round : report.rounds())
        text += fmt::format("{:>5} {:>10} {:>10} {:>12} {:>10.1f} {:>14} {:>12.0f} {:>6.2f}\n",
                            round.index(), round.dirty_pages(), round.sent_pages(),
                            format_bytes(round.sent_bytes()), round.duration_ms(),
                            rate(round.rate_bytes_per_s()), round.dirty_pages_per_s(), round.r());
    if (report.stream_slices_size() > 0) text += streams_text(report);
    if (!report.tracker().empty())
        text +=
            fmt::format("tracked with {}{}{}\n", report.tracker(),
                        report.tracker_reason().empty() ? "" : ", since ", report.tracker_reason());
    if (report.throttle_percent() > 0)
        text += fmt::format("vCPUs held back up to {} % of the time\n", report.throttle_percent());
    if (!report.switch_reason().empty())
        text += fmt::format("switched because: {}\n", report.switch_reason());
    const v1::Downtime& parts = report.downtime();
    if (report.outcome() == v1::OUTCOME_DONE) {
        text += fmt::format("{:<36}{:>10.2f} ms\n", "downtime", report.downtime_ms());
        text += part("stop to block layer drained", parts.stop_to_quiet_ms());
        text += part("last dirty set", parts.collect_ms());
        text += part("last pages", parts.last_pages_ms());
        text += part("device state", parts.device_state_ms());
        text += part("commit to resumed", parts.commit_ms());
    }
    if (report.postcopy().used()) text += postcopy_text(report.postcopy());
    text += fmt::format("{:<36}{:>10.2f} ms (destination's QEMU: {:.1f} ms)\n", "total",
                        report.total_ms(), report.prepare_ms());
    text += fmt::format(
        "{} on the wire for {} touched of {} RAM; pages: {} raw, {} lz4, {} zstd, "
        "{} zero, {} unchanged\n",
        format_bytes(report.wire_bytes()), format_bytes(report.touched_bytes()),
        format_bytes(report.ram_bytes()), report.pages().raw(), report.pages().lz4(),
        report.pages().zstd(), report.pages().zero(), report.pages().unchanged());
    if (report.has_prediction()) text += prediction_text(report);
    if (report.verify_ms() > 0)
        text +=
            fmt::format("verify: {} pages compared, {} mismatches ({:.1f} ms, not in downtime)\n",
                        report.verify().pages(), report.verify().mismatches(), report.verify_ms());
    for (const std::string& disk : report.unchecked_disks())
        text += fmt::format("not checked: {}\n", disk);
    for (const std::string& warning : report.warnings())
        text += fmt::format("warning: {}\n", warning);
    return text;
}

std::string verdict(const v1::MigrationReport& report) {
    std::string where = "needs an operator: see the reason above and the agents' logs";
    if (report.guest_at() == v1::GUEST_AT_SOURCE)
        where = fmt::format("is at the source {}", report.source());
    if (report.guest_at() == v1::GUEST_AT_DESTINATION)
        where = fmt::format("is at the destination {}", report.destination());
    if (report.guest_at() == v1::GUEST_AT_NONE) where = "is gone: its QEMU ended";
    return fmt::format("migration {} {}{}{}; the guest {}; a retry is {}", report.migration_id(),
                       enum_word(report.outcome()), report.reason().empty() ? "" : ": ",
                       report.reason(), where,
                       report.outcome() == v1::OUTCOME_DONE ? "not needed"
                       : report.retry_safe()                ? "safe"
                                                            : "not safe");
}

std::string refusal(const absl::Status& error, const std::string& vm) {
    const std::string message(error.message());
    const std::optional<v1::ErrorDetail> detail = detail_of(error);
    if (!detail)
        return fmt::format("{}; whether the migration began is not known: godwit report {}",
                           message, vm);
    return fmt::format("{}; nothing was touched, the guest is where it was; a retry is {}", message,
                       detail->retry_safe() ? "safe" : "not safe");
}

nlohmann::ordered_json error_json(const absl::Status& error) {
    nlohmann::ordered_json object{{"error", std::string(error.message())}};
    const std::optional<v1::ErrorDetail> detail = detail_of(error);
    const bool local = absl::IsInvalidArgument(error) || absl::IsNotFound(error);
    object["reason"] = detail ? detail->reason() : local ? "USAGE" : "CALL_LOST";
    if (detail) {
        object["guest_at"] = enum_word(detail->guest_at());
        object["retry_safe"] = detail->retry_safe();
    }
    return object;
}

std::string json_text(const nlohmann::ordered_json& json) {
    return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string vm_table(const v1::ListVmsResponse& vms) {
    std::string text = fmt::format("{:<24} {:<12} {:>5} {:>12} {:<6} {:>8}  {}\n", "NAME", "STATE",
                                   "VCPUS", "MEMORY", "ACCEL", "PID", "MIGRATION");
    for (const v1::VmInfo& vm : vms.vms())
        text += fmt::format("{:<24} {:<12} {:>5} {:>12} {:<6} {:>8}  {}\n", vm.spec().name(),
                            vm.state(), vm.spec().vcpus(), format_bytes(vm.spec().memory_bytes()),
                            enum_word(vm.spec().accel()), vm.pid(), vm.migration_id());
    return text;
}

std::string migration_table(const v1::ListMigrationsResponse& migrations) {
    std::string text = fmt::format("{:<20} {:<20} {:<11} {:<15} {:>10} {:>12}  {}\n", "ID", "VM",
                                   "OUTCOME", "GUEST AT", "TOTAL ms", "DOWNTIME ms", "TO");
    for (const v1::MigrationReport& report : migrations.migrations())
        text += fmt::format("{:<20} {:<20} {:<11} {:<15} {:>10.1f} {:>12.2f}  {}\n",
                            report.migration_id(), report.vm(), enum_word(report.outcome()),
                            enum_word(report.guest_at()), report.total_ms(), report.downtime_ms(),
                            report.destination());
    return text;
}

std::string vm_text(const v1::VmInfo& vm) {
    const v1::VmSpec& spec = vm.spec();
    const auto line = [](const char* name, const std::string& value) {
        return value.empty() ? std::string() : fmt::format("{:<10} {}\n", name, value);
    };
    std::string text =
        line("name", spec.name()) + line("uuid", spec.uuid()) + line("state", vm.state()) +
        line("pid", std::to_string(vm.pid())) + line("migration", vm.migration_id()) +
        line("machine",
             fmt::format("{}, {}, CPU {}", spec.machine(), enum_word(spec.accel()), spec.cpu())) +
        line("vcpus", std::to_string(spec.vcpus())) +
        line("memory", fmt::format("{} ({})", format_bytes(spec.memory_bytes()),
                                   enum_word(spec.memory_backing())));
    for (const std::string& file : vm.ram_files()) text += line("ram file", file);
    text += line("firmware", spec.firmware()) + line("kernel", spec.kernel()) +
            line("initrd", spec.initrd()) + line("append", spec.append());
    for (const v1::Disk& disk : spec.disks())
        text += line("disk",
                     fmt::format("{} ({}, cache {}{})", disk.path(), disk.format(),
                                 enum_word(disk.cache()), disk.readonly() ? ", read-only" : ""));
    for (const v1::Nic& nic : spec.nics())
        text +=
            line("nic", fmt::format("{} on {}", nic.mac(),
                                    nic.bridge().empty() ? "QEMU's user network" : nic.bridge()));
    return text;
}

std::string dirty_rate_text(const v1::DirtyRate& rate) {
    std::string text = fmt::format("{}: written pages by {}{}{}; {} of memory in use\n", rate.vm(),
                                   rate.tracker(), rate.tracker_reason().empty() ? "" : ", since ",
                                   rate.tracker_reason(), format_bytes(rate.touched_bytes()));
    text += fmt::format("{:>12}  {:>12}  {:>12}  {:>12}\n", "window", "pages", "memory", "pages/s");
    for (const v1::DirtyRatePoint& point : rate.points())
        text += fmt::format("{:>9.1f} ms  {:>12}  {:>12}  {:>12.0f}\n", point.window_ms(),
                            point.dirty_pages(), format_bytes(point.dirty_bytes()),
                            point.dirty_pages_per_s());
    return text;
}

std::string host_text(const v1::Host& host) {
    std::string text = fmt::format(
        "godwit {} (transfer protocol {}), {} {}, kernel {}, KVM {}\n{} CPUs, {} memory, {} "
        "available, {} VMs\n",
        host.godwit_version(), host.protocol_version(), host.hypervisor(),
        host.hypervisor_version(), host.kernel(), host.kvm() ? "yes" : "no", host.cpus(),
        format_bytes(host.memory_bytes()), format_bytes(host.available_bytes()), host.vm_count());
    for (const std::string& tracker : host.trackers()) text += fmt::format("tracker {}\n", tracker);
    for (const std::string& problem : host.tracker_problems())
        text += fmt::format("missing: {}\n", problem);
    return text;
}

}  // namespace godwit
