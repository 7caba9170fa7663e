#include "test_vms.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <algorithm>
#include <filesystem>

#include "engine/guest/qemu/qmp_client.h"

namespace godwit {

StateDir::StateDir() { EXPECT_NE(::mkdtemp(path_.data()), nullptr); }

StateDir::~StateDir() {
    for (const char* name : {"ram-thp", "ram-4k", "ram-hugetlb-2M"})
        ::umount2(fmt::format("{}/{}", path_, name).c_str(), UMOUNT_NOFOLLOW);
    std::error_code error;
    std::filesystem::remove_all(path_, error);
}

std::vector<std::string> StateDir::leftovers() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_))
        if (entry.path().filename() != "vms") found.push_back(entry.path().string());
    return found;
}

v1::VmSpec bios_guest(const std::string& name, v1::Accel accel) {
    v1::VmSpec spec;
    spec.set_name(name);
    spec.set_memory_bytes(64 << 20);
    spec.set_accel(accel);
    return spec;
}

bool make_image(const std::string& path, const std::string& format) {
    const auto program = find_program("qemu-img");
    return program.ok() &&
           run_and_capture({*program, "create", "-q", "-f", format, path, "16M"}, kTestLimit).ok();
}

std::string monitor_command(const Vm& vm, const std::string& line) {
    auto client =
        QmpClient::connect(vm.guard_address(), Clock::system().now() + kTestLimit, nullptr);
    if (!client.ok()) return client.status().ToString();
    const auto reply =
        (*client)->execute("human-monitor-command", {{"command-line", line}}, kTestLimit);
    return reply.ok() ? reply->get<std::string>() : reply.status().ToString();
}

absl::Status grow_disk(const Vm& vm) {
    static int64_t size_bytes = 16 << 20;
    auto client =
        QmpClient::connect(vm.guard_address(), Clock::system().now() + kTestLimit, nullptr);
    if (!client.ok()) return client.status();
    size_bytes += 65536;
    return (*client)
        ->execute("block_resize", {{"node-name", "disk0"}, {"size", size_bytes}}, kTestLimit)
        .status();
}

EventLog::EventLog(Vm& vm) : vm_(vm) {
    vm_.set_listener([this](const GuestEvent& event) {
        const std::lock_guard lock(mutex_);
        events_.push_back(event);
        arrived_.notify_all();
    });
}

EventLog::~EventLog() { vm_.set_listener({}); }

bool EventLog::wait_for(GuestEventKind kind, const std::string& detail) {
    std::unique_lock lock(mutex_);
    return arrived_.wait_for(lock, kTestLimit, [&] {
        return std::any_of(events_.begin(), events_.end(), [&](const GuestEvent& event) {
            return event.kind == kind && (detail.empty() || event.detail == detail);
        });
    });
}

std::vector<GuestEvent> EventLog::events() {
    const std::lock_guard lock(mutex_);
    return events_;
}

void EventLog::clear() {
    const std::lock_guard lock(mutex_);
    events_.clear();
}

}  // namespace godwit
