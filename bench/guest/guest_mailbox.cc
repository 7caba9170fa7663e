// guest-mailbox: prints what the test guest says in its mailbox.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>

#include "bench/guest/blackout_sampler.h"
#include "bench/guest/mailbox_reader.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

struct Totals {
    uint64_t ticks = 0, writes = 0, checked = 0, errors = 0, disk_reads = 0, longest_pause_us = 0;
};

Totals totals_of(const Mailbox& mailbox) {
    Totals totals;
    for (uint64_t i = 0; i < std::min<uint64_t>(mailbox.vcpu_count, kMaxVcpus); ++i) {
        totals.ticks += mailbox.vcpus[i].tick;
        totals.writes += mailbox.vcpus[i].writes;
        totals.checked += mailbox.vcpus[i].checked;
        totals.errors += mailbox.vcpus[i].errors;
        totals.longest_pause_us =
            std::max(totals.longest_pause_us, mailbox.vcpus[i].longest_pause_us);
    }
    totals.disk_reads = mailbox.disk.reads;
    totals.errors += mailbox.disk.errors;
    return totals;
}

int fail(const std::string& why) {
    std::cerr << "guest-mailbox: " << why << std::endl;
    return 1;
}

// Looks every 10 ms: the guest tells nobody when it writes its mailbox.
bool wait_until(const MailboxReader& reader, double seconds,
                const std::function<bool(const Mailbox&)>& done) {
    const MonotonicTime deadline =
        Clock::system().now() + std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
    while (Clock::system().now() < deadline) {
        const auto mailbox = reader.read();
        if (mailbox.ok() && done(*mailbox)) return true;
        wait_readable(-1, -1, Clock::system().now() + std::chrono::milliseconds(10)).IgnoreError();
    }
    return false;
}

void print(const Mailbox& mailbox, bool json) {
    const Totals totals = totals_of(mailbox);
    if (json)
        std::cout << fmt::format(
            "{{\"state\": {}, \"ticks\": {}, \"writes\": {}, \"checked\": {}, \"errors\": {}, "
            "\"disk_reads\": {}, \"longest_pause_us\": {}}}\n",
            mailbox.state, totals.ticks, totals.writes, totals.checked, totals.errors,
            totals.disk_reads, totals.longest_pause_us);
    else
        std::cout << fmt::format(
            "guest: {} pages written, {} checked, {} errors; longest pause by its own clock {} "
            "us\n",
            totals.writes, totals.checked, totals.errors, totals.longest_pause_us);
}

// The guest's RAM file in the destination's mount appears only when its QEMU starts.
int sample_blackout(const std::string& source, const std::string& destination_dir) {
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGTERM);
    ::sigaddset(&signals, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    const UniqueFd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC));
    std::string found;
    const auto look = [&] {
        std::error_code error;
        for (const auto& entry : std::filesystem::directory_iterator(destination_dir, error))
            if (entry.path().filename().string().ends_with("-ram0")) found = entry.path().string();
        return !found.empty();
    };
    while (!look())
        if (!absl::IsDeadlineExceeded(wait_readable(
                signal_fd.get(), -1, Clock::system().now() + std::chrono::milliseconds(2))))
            return fail("no RAM file appeared at the destination");
    absl::StatusOr<BlackoutSampler> sampler =
        BlackoutSampler::start({.source_path = source, .destination_path = found});
    if (!sampler.ok()) return fail(std::string(sampler.status().message()));
    wait_readable(signal_fd.get(), -1, std::nullopt).IgnoreError();
    const BlackoutReport report = sampler->stop();
    std::cout << fmt::format(
        "blackout seen from outside: {:.2f} ms (the sampler's own longest gap "
        "{:.2f} ms)\n",
        static_cast<double>(report.longest_ns) / 1e6,
        static_cast<double>(report.longest_sample_gap_ns) / 1e6);
    return 0;
}

int run(int argc, char** argv) {
    CLI::App app(
        "Prints what the test guest says in its mailbox.\n\nExample:\n"
        "  guest-mailbox /var/lib/godwit/ram-thp/demo-1a2b3c4d-ram0");
    std::string path;
    std::vector<std::string> blackout;
    std::optional<double> wait_running, wait_progress;
    bool json = false, errors = false;
    app.add_option("RAM-FILE", path);
    app.add_option("--blackout", blackout,
                   "SOURCE-RAM-FILE DESTINATION-MOUNT: sample until SIGTERM")
        ->expected(2);
    app.add_option("--wait-running", wait_running, "Wait this many seconds for the guest to run");
    app.add_option("--wait-progress", wait_progress, "Wait this many seconds for new ticks");
    app.add_flag("--json", json);
    app.add_flag("--errors", errors, "Print the number of errors only");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (!blackout.empty()) return sample_blackout(blackout[0], blackout[1]);
    const absl::StatusOr<MailboxReader> reader = MailboxReader::open(path);
    if (!reader.ok()) return fail(std::string(reader.status().message()));
    if (wait_running) {
        const auto runs = [](const Mailbox& mailbox) {
            return mailbox.state == static_cast<uint64_t>(GuestState::kRunning);
        };
        return wait_until(*reader, *wait_running, runs) ? 0 : fail("the guest does not run");
    }
    const absl::StatusOr<Mailbox> mailbox = reader->read();
    if (!mailbox.ok()) return fail(std::string(mailbox.status().message()));
    if (wait_progress) {
        const Totals before = totals_of(*mailbox);
        const auto moved = [&](const Mailbox& now) {
            return totals_of(now).ticks > before.ticks && totals_of(now).writes > before.writes;
        };
        return wait_until(*reader, *wait_progress, moved) ? 0 : fail("the guest does not go on");
    }
    if (errors)
        std::cout << totals_of(*mailbox).errors << std::endl;
    else
        print(*mailbox, json);
    return 0;
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) { return godwit::run(argc, argv); }
