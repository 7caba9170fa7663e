#include "bench/lab/lab.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "bench/lab/provenance.h"
#include "bench/lab/service_net.h"

namespace godwit {

absl::StatusOr<std::unique_ptr<Lab>> Lab::open(LabOptions options) {
    GODWIT_ASSIGN_OR_RETURN(Interrupt interrupt, Interrupt::create());
    const std::string bin_dir =
        std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
    GuestConfig machine;
    GODWIT_RETURN_IF_ERROR(find_machine(options, bin_dir, machine));
    GODWIT_ASSIGN_OR_RETURN(JsonLines lines, JsonLines::open(options.json_path));
    GODWIT_ASSIGN_OR_RETURN(Scratch scratch, Scratch::create(options.scratch));
    return std::unique_ptr<Lab>(new Lab(std::move(options), std::move(machine), bin_dir,
                                        std::move(interrupt), std::move(lines),
                                        std::move(scratch)));
}

Lab::Lab(LabOptions options, GuestConfig machine, std::string bin_dir, Interrupt interrupt,
         JsonLines lines, Scratch scratch)
    : options_(std::move(options)),
      machine_(std::move(machine)),
      bin_dir_(std::move(bin_dir)),
      interrupt_(std::move(interrupt)),
      lines_(std::move(lines)),
      scratch_(std::move(scratch)),
      mounts_(std::make_unique<RamMounts>(scratch_.path())) {}

Lab::~Lab() { mounts_->release_unused(); }

GuestConfig Lab::equip(GuestConfig guest, bool kvm) const {
    // What has more memory than 40 bits of address reach needs a CPU that says so.
    constexpr Bytes kLarge = Bytes{1} << 39;
    guest.kvm = kvm;
    guest.cpu =
        (kvm ? machine_.cpu : "max") + std::string(guest.memory > kLarge ? ",phys-bits=42" : "");
    guest.kernel = machine_.kernel;
    guest.firmware = machine_.firmware;
    guest.seed = options_.seed;
    return guest;
}

absl::StatusOr<GuestConfig> Lab::equip_service(GuestConfig guest, bool kvm) const {
    constexpr Bytes kDiskBytes = Bytes{64} << 20;
    const std::string made = GODWIT_SOURCE_DIR "/build/linux-guest/";
    guest.kernel = made + "vmlinuz";
    guest.initrd = made + "service.img";
    for (const std::string& file : {guest.kernel, guest.initrd})
        if (!std::filesystem::exists(file))
            return absl::UnimplementedError(fmt::format(
                "there is no {}: run bench/guest/linux/make.sh build/linux-guest", file));
    guest.kvm = kvm;
    if (kvm) guest.cpu = machine_.cpu;
    // No clock is distrusted for a pause on a busy host.
    guest.append = "quiet panic=-1 oops=panic tsc=reliable no_timer_check mitigations=off";
    guest.bridge = ServiceNet::kBridge;
    guest.mac = ServiceNet::kGuestMac;
    guest.disk = scratch_.path() + "/service.disk";
    std::filesystem::remove(guest.disk);
    std::ofstream(guest.disk).close();
    std::error_code error;
    std::filesystem::resize_file(guest.disk, kDiskBytes, error);
    if (error)
        return absl::UnavailableError(
            fmt::format("Cannot make {}: {}", guest.disk, error.message()));
    return guest;
}

std::unique_ptr<AgentPair> Lab::agents(const std::array<LabHost, 2>& hosts,
                                       const std::string& bin_dir, const std::string& name) const {
    return std::make_unique<AgentPair>(
        AgentPair::Options{.bin_dir = bin_dir.empty() ? bin_dir_ : bin_dir,
                           .directory = scratch_.path() + (name.empty() ? "" : "/") + name,
                           .qemu = options_.qemu,
                           .cancel_fd = interrupt_.fd(),
                           .hosts = hosts});
}

std::unique_ptr<LibvirtPair> Lab::libvirts(const std::array<LabHost, 2>& hosts,
                                           const std::string& qemu) const {
    return std::make_unique<LibvirtPair>(
        LibvirtPair::Options{.directory = scratch_.path() + "/libvirt",
                             .qemu = qemu,
                             .cancel_fd = interrupt_.fd(),
                             .hosts = hosts});
}

LabSetup Lab::setup(GuestConfig guest, const std::array<LabHost, 2>& hosts, AgentPair& agents) {
    return {.guest = std::move(guest),
            .qemu = options_.qemu,
            .bandwidth = options_.bandwidth,
            .downtime_limit = options_.downtime_limit,
            .limit = options_.limit,
            .tracker = options_.tracker,
            .migrate_flags = options_.migrate_flags,
            .hosts = hosts,
            .cancel_fd = interrupt_.fd(),
            .mounts = mounts_.get(),
            .agents = &agents};
}

Series::Options Lab::series() const {
    return {.repeats = options_.repeats,
            .warm_up = options_.warm_up,
            .idle_percent = options_.idle_percent,
            .seed = options_.seed,
            .cancel_fd = interrupt_.fd()};
}

nlohmann::json Lab::setting() const {
    nlohmann::json line = provenance(options_.qemu);
    line["kind"] = "setting";
    line["seed"] = options_.seed;
    line["accel"] = machine_.kvm ? "kvm" : "tcg";
    line["bandwidth_bytes_per_s"] = options_.bandwidth;
    line["downtime_limit_ms"] = to_ms(options_.downtime_limit);
    line["repeats"] = options_.repeats;
    line["migrate_flags"] = options_.migrate_flags;
    return line;
}

}  // namespace godwit
