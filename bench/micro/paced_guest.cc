#include "bench/micro/paced_guest.h"

#include <algorithm>
#include <filesystem>

#include "bench/guest/blackout_sampler.h"
#include "bench/guest/mailbox_layout.h"
#include "engine/base/wait.h"
#include "engine/guest/qemu/kvm_probe.h"

namespace godwit {
namespace {

constexpr const char* kQboot = "/usr/share/qemu/qboot.rom";
// It fills its working set first.
constexpr Duration kBootLimit = std::chrono::seconds(240);
constexpr Duration kKillLimit = std::chrono::seconds(30);

double longest_between(const BlackoutReport& report, MonotonicTime begin, MonotonicTime end) {
    double longest_ms = 0;
    for (const Stillness& stall : report.stalls)
        if (stall.begin < end && stall.end > begin)
            longest_ms = std::max(longest_ms, to_ms(stall.length()));
    return longest_ms;
}

std::string firmware() { return std::filesystem::exists(kQboot) ? kQboot : ""; }

}  // namespace

void pause_for(double seconds) {
    (void)wait_readable(-1, -1,
                        Clock::system().now() + std::chrono::duration_cast<Duration>(
                                                    std::chrono::duration<double>(seconds)));
}

absl::StatusOr<std::unique_ptr<PacedGuest>> PacedGuest::start(QemuHypervisor& hypervisor,
                                                              const PacedSetup& setup) {
    std::unique_ptr<PacedGuest> guest(new PacedGuest(hypervisor));
    GODWIT_RETURN_IF_ERROR(setup.memory == PacedMemory::kPrivate ? guest->start_private(setup)
                                                                 : guest->start_shared(setup));
    GODWIT_RETURN_IF_ERROR(guest->await_running());
    return guest;
}

PacedGuest::~PacedGuest() {
    if (!vm_) return;
    (void)vm_->kill(kKillLimit);
    (void)hypervisor_.forget(*vm_);
}

absl::Status PacedGuest::start_shared(const PacedSetup& setup) {
    v1::VmSpec spec;
    spec.set_name("pace");
    spec.set_memory_bytes(setup.size);
    spec.set_vcpus(1);
    spec.set_accel(v1::ACCEL_KVM);
    spec.set_memory_backing(setup.memory == PacedMemory::k4k ? v1::MEMORY_BACKING_4K
                                                             : v1::MEMORY_BACKING_THP);
    spec.set_kernel(setup.kernel);
    spec.set_append(setup.append);
    spec.set_no_resident(!setup.resident);
    spec.set_firmware(firmware());
    GODWIT_ASSIGN_OR_RETURN(vm_, hypervisor_.start(spec, StartMode::kRun));
    ticks_ = std::make_shared<FileTicks>(vm_->ram_blocks()[0].path);
    return absl::OkStatus();
}

absl::Status PacedGuest::start_private(const PacedSetup& setup) {
    GODWIT_ASSIGN_OR_RETURN(events_, EventBoard::create(-1));
    const GuestConfig config{.memory = setup.size,
                             .kvm = true,
                             .cpu = default_kvm_cpu(),
                             .kernel = setup.kernel,
                             .firmware = firmware(),
                             .append = setup.append};
    GODWIT_ASSIGN_OR_RETURN(peer_, Peer::start({.program = "qemu-system-x86_64", .guest = config},
                                               Side::kSource, *events_));
    GODWIT_ASSIGN_OR_RETURN(address_, peer_->host_address(kMailboxAddress));
    auto ticks = std::make_shared<ProcessTicks>();
    if (!ticks->show(peer_->pid(), address_))
        return absl::UnavailableError("Cannot read the memory of QEMU");
    ticks_ = std::move(ticks);
    return absl::OkStatus();
}

absl::Status PacedGuest::await_running() {
    const MonotonicTime deadline = Clock::system().now() + kBootLimit;
    while (Clock::system().now() < deadline) {
        const auto said = mailbox();
        if (said.ok() && said->state == static_cast<uint64_t>(GuestState::kRunning))
            return absl::OkStatus();
        pause_for(0.05);
    }
    return absl::DeadlineExceededError("the guest did not boot");
}

absl::StatusOr<Mailbox> PacedGuest::mailbox() {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader,
                            vm_ ? MailboxReader::open(vm_->ram_blocks()[0].path)
                                : MailboxReader::open_process(peer_->pid(), address_));
    return reader.read();
}

absl::StatusOr<Pace> PacedGuest::measure(double seconds, const Step& first, const Step& meanwhile) {
    auto sampler =
        BlackoutSampler::start({.more = {ticks_}, .period = std::chrono::microseconds(200)});
    if (!sampler.ok()) return sampler.status();
    std::vector<MonotonicTime> marks{Clock::system().now()};
    GODWIT_RETURN_IF_ERROR(first());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox before, mailbox());
    marks.push_back(Clock::system().now());
    const auto elapsed = [&] {
        return std::chrono::duration<double>(marks.back() - marks[1]).count();
    };
    while (elapsed() < seconds) {
        GODWIT_RETURN_IF_ERROR(meanwhile());
        marks.push_back(Clock::system().now());
    }
    GODWIT_ASSIGN_OR_RETURN(const Mailbox after, mailbox());
    const BlackoutReport report = sampler->stop();
    Pace pace{.writes_per_s =
                  static_cast<double>(after.vcpus[0].writes - before.vcpus[0].writes) / elapsed(),
              .still_in_first_ms = longest_between(report, marks[0], marks[1])};
    for (size_t i = 2; i < marks.size(); ++i)
        pace.still_ms.push_back(longest_between(report, marks[i - 1], marks[i]));
    return pace;
}

}  // namespace godwit
