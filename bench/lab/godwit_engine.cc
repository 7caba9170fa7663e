#include "bench/lab/godwit_engine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

namespace godwit {
namespace {

constexpr Duration kGodwitLimit = std::chrono::seconds(60);
constexpr Duration kQemuEndLimit = std::chrono::seconds(10);
constexpr int kUsage = 2;
constexpr int kSource = 0;
constexpr int kDestination = 1;

int64_t now_unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::string next_name() {
    static std::atomic<int> count = 0;
    return fmt::format("lab{}", ++count);
}

}  // namespace

GodwitEngine::GodwitEngine(std::string strategy, const LabSetup& setup)
    : strategy_(std::move(strategy)), setup_(setup), vm_(next_name()) {}

GodwitEngine::~GodwitEngine() {
    if (started_) setup_.agents->forget_vm(vm_);
}

absl::StatusOr<std::string> GodwitEngine::write_vm_file() const {
    std::string path = fmt::format("{}/{}.yaml", setup_.agents->directory(kSource), vm_);
    std::ofstream out(path);
    out << lab_vm_file(vm_, setup_.guest);
    out.close();
    if (!out) return absl::UnavailableError(fmt::format("Cannot write {}", path));
    return path;
}

absl::Status GodwitEngine::start_guest() {
    GODWIT_RETURN_IF_ERROR(setup_.agents->start());
    GODWIT_ASSIGN_OR_RETURN(const std::string file, write_vm_file());
    started_ = true;
    GODWIT_ASSIGN_OR_RETURN(const CommandOutcome started,
                            setup_.agents->run(kSource, {"vm", "start", file}, kGodwitLimit));
    ::unlink(file.c_str());
    if (started.exit_code != 0) return failed_command("vm start", started);
    if (setup_.guest.service) return absl::OkStatus();
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, mailbox());
    return wait_until_running(reader, setup_.cancel_fd);
}

std::vector<std::shared_ptr<TickSource>> GodwitEngine::ticks() {
    const auto in = [&](int which) {
        return std::make_shared<DirectoryTicks>(
            setup_.agents->ram_directory(which, setup_.guest.backing), vm_ + "-", "-ram0");
    };
    return {in(kSource), in(kDestination)};
}

std::vector<std::string> GodwitEngine::migrate_words() const {
    std::vector<std::string> words{
        "migrate",
        vm_,
        "--to",
        setup_.agents->address(kDestination),
        "--strategy",
        strategy_,
        "--tracker",
        setup_.tracker,
        "--downtime-limit",
        fmt::format(
            "{}us",
            std::chrono::duration_cast<std::chrono::microseconds>(setup_.downtime_limit).count()),
        "--json"};
    if (setup_.bandwidth > 0)
        words.insert(words.end(), {"--bandwidth", fmt::format("{}B/s", setup_.bandwidth)});
    words.insert(words.end(), setup_.migrate_flags.begin(), setup_.migrate_flags.end());
    return words;
}

absl::StatusOr<Metrics> GodwitEngine::move() {
    const MonotonicTime begun = Clock::system().now();
    requested_unix_ms_ = now_unix_ms();
    GODWIT_ASSIGN_OR_RETURN(const CommandOutcome moved,
                            setup_.agents->run(kSource, migrate_words(), setup_.limit));
    const double command_ms = to_ms(Clock::system().now() - begun);
    if (moved.exit_code == kUsage)
        return absl::UnimplementedError(
            fmt::format("this build does not know it: {}", end_of(moved.err)));
    if (moved.exit_code != 0) return failed_command("migrate", moved);
    moved_ = true;
    return Metrics{{"command_ms", command_ms}};
}

absl::StatusOr<Metrics> GodwitEngine::details() {
    GODWIT_ASSIGN_OR_RETURN(const CommandOutcome told,
                            setup_.agents->run(kSource, {"report", vm_, "--json"}, kGodwitLimit));
    const auto report = nlohmann::json::parse(told.out, nullptr, false);
    if (!report.is_object()) return failed_command("report", told);
    report_ = report;
    return godwit_metrics(report, godwit_lead_ms(report, requested_unix_ms_));
}

absl::StatusOr<nlohmann::json> GodwitEngine::series() {
    return godwit_series(report_, godwit_lead_ms(report_, requested_unix_ms_));
}

absl::StatusOr<CpuSeconds> GodwitEngine::cpu() {
    // The end of the source's QEMU is part of the migration.
    if (moved_) GODWIT_RETURN_IF_ERROR(setup_.agents->wait_childless(kSource, kQemuEndLimit));
    return setup_.agents->cpu();
}

absl::StatusOr<MailboxReader> GodwitEngine::mailbox() {
    return MailboxReader::open(
        setup_.agents->ram_file(moved_ ? kDestination : kSource, setup_.guest.backing, vm_));
}

}  // namespace godwit
