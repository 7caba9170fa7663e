#include "tests/unit/dirty-tracking/resident/resident_target.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <sstream>

namespace godwit {
absl::StatusOr<UniqueFd> ResidentTarget::listen() {
    directory_ = "/tmp/godwit-resident-XXXXXX";
    if (::mkdtemp(directory_.data()) == nullptr) return errno_status(errno, "mkdtemp");
    socket_path = directory_ + "/resident";
    // Not closed on exec: it is the target's.
    UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    socket_path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), 4) != 0)
        return errno_status(errno, "the resident's socket");
    return listener;
}

absl::Status ResidentTarget::make_ram(const std::vector<Bytes>& sizes) {
    for (size_t i = 0; i < sizes.size(); ++i) {
        const std::string name = "ram" + std::to_string(i);
        const std::string path = mount.path() + "/" + name;
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (::ftruncate(file.get(), static_cast<off_t>(sizes[i])) != 0)
            return errno_status(errno, "ftruncate");
        GODWIT_ASSIGN_OR_RETURN(RamBlock block, open_ram_block(name, path, Backing::kTmpfs4k));
        blocks.push_back(std::move(block));
        const std::string answer = tell("ram " + path + " 0 " + std::to_string(sizes[i]));
        if (answer != "fine") return absl::UnavailableError(answer);
    }
    return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ResidentTarget>> ResidentTarget::start(
    const ResidentTargetOptions& options) {
    GODWIT_ASSIGN_OR_RETURN(PrivateMount mount,
                            PrivateMount::create(options.mount_type, options.mount_options));
    std::unique_ptr<ResidentTarget> target(new ResidentTarget(std::move(mount)));
    GODWIT_ASSIGN_OR_RETURN(const UniqueFd listener, target->listen());
    std::vector<std::string> arguments{"/usr/bin/env"};
    if (!options.preload.empty()) arguments.push_back("LD_PRELOAD=" + options.preload);
    arguments.push_back("GODWIT_RESIDENT_FD=" + std::to_string(listener.get()));
    arguments.emplace_back(GODWIT_KVM_TARGET);
    arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
    GODWIT_ASSIGN_OR_RETURN(target->program, ChildProgram::start(arguments));
    const std::string greeting = target->program->read_line();
    if (greeting != "ready") return absl::UnavailableError("kvm_target: " + greeting);
    GODWIT_RETURN_IF_ERROR(target->make_ram(options.ram));
    return target;
}

ResidentTarget::~ResidentTarget() {
    ::unlink(socket_path.c_str());
    ::rmdir(directory_.c_str());
}

std::string ResidentTarget::tell(const std::string& command, const Pages& numbers) const {
    std::ostringstream line;
    line << command;
    for (const PageIndex number : numbers) line << ' ' << number;
    return program->ask(line.str());
}

std::string ResidentTarget::slot(uint32_t id, PageIndex guest_page, size_t view, PageRange pages,
                                 uint32_t flags) const {
    std::ostringstream line;
    line << "slot " << id << ' ' << guest_page * kPageBytes << ' ' << view << ' '
         << pages.begin * kPageBytes << ' ' << pages.count() * kPageBytes << ' ' << flags;
    return program->ask(line.str());
}

std::string ResidentTarget::remove_slot(uint32_t id) const { return slot(id, 0, 0, {}); }

std::string ResidentTarget::write(const Pages& guest_pages, unsigned vcpu) const {
    Pages addresses;
    for (const PageIndex page : guest_pages) addresses.insert(page * kPageBytes);
    return tell("write " + std::to_string(vcpu), addresses);
}

PageSet ResidentTarget::empty_set() const {
    PageSet set;
    for (const RamBlock& block : blocks) set.emplace_back(block.page_count());
    return set;
}

Pages ResidentTarget::collect(ResidentClient& client, size_t block) const {
    PageSet dirty = empty_set();
    const absl::Status status = client.collect(dirty);
    EXPECT_TRUE(status.ok()) << status;
    Pages pages;
    dirty[block].for_each_run([&pages](PageRange run) {
        for (PageIndex page = run.begin; page < run.end; ++page) pages.insert(page);
    });
    return pages;
}

absl::Status ResidentTarget::rearm_all(ResidentClient& client) const {
    for (BlockIndex i = 0; i < blocks.size(); ++i)
        GODWIT_RETURN_IF_ERROR(client.rearm(i, {0, blocks[i].page_count()}));
    return absl::OkStatus();
}

std::string why_no_resident() {
    if (::geteuid() != 0) return "needs root for mounts";
    if (::access("/dev/kvm", R_OK | W_OK) != 0) return "no usable /dev/kvm";
    return "";
}

Pages range_of(PageIndex first, uint64_t count) {
    Pages pages;
    for (PageIndex page = first; page < first + count; ++page) pages.insert(page);
    return pages;
}

Pages moved(const Pages& pages, PageIndex by) {
    Pages result;
    for (const PageIndex page : pages) result.insert(page + by);
    return result;
}

}  // namespace godwit
