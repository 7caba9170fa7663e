// Stands for QEMU under KVM: a process with a VM of its own, told by lines on stdin what to do.
//   kvm_target [manual=0|1|3] [vcpus=1|2] [ring] [no-kvm]
// It says "ready" or why it can't begin, and then answers each line with "fine", a result, or a
// reason. Guest addresses and lengths are in bytes, pages are page numbers.
//   ram <path> <offset> <bytes>            maps a part of a RAM file: views count from 0
//   pair <path> <path> <bytes>             two new files of that size, side by side in one view
//   unmap <view>
//   slot <id> <guest address> <view> <offset in the view> <bytes> <flags>     bytes 0: deletes
//   write <vcpu> <guest address>...        the vCPU writes a new word to each
//   stride <vcpu> <guest address> <step> <count>
//   random <vcpu> <seed> <guest address> <pages, a power of two> <count>
//   run <vcpu> <seed> <guest address> <pages, a power of two> [<count>]    again and again until
//                                          "halt <vcpu>"
//   start-list <vcpu> <guest address>...   begins a write; "await <vcpu>" waits for its end
//   halt <vcpu> | kick <vcpu> | cpu <vcpu> | pieces <vcpu>
//   store <view> <page>...                 QEMU's own writes
//   load <view> <page>                     the first word of the page
//   get <slot> | clear <slot> <first page> <pages> <page>...      QEMU's own log
//   kernel-get <slot>                      the same, past any preloaded library
//   punch <path> <page> <count> | remove <view> <page> <count> | forget <view> <page> <count>
//   address-spaces                         how many KVM has
//   open-files                             how many descriptors the process has
//   fork <path> <view>                     a child that discards and exits; "fine" if it can
//   environment                            what a child process finds in LD_PRELOAD
//   handle-sigbus                          installs a handler, and looks whether it is reported
//   back touch <address>                        reads there: "fine", or where the handler was told
//   it was
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/dirty-tracking/resident/target_vm.h"

namespace {

constexpr uint64_t kPage = 4096;

struct View {
    char* data = nullptr;
    uint64_t bytes = 0;
};

std::vector<View> g_views;
std::map<uint32_t, uint64_t> g_slot_pages;
uint64_t g_counter = 0;
godwit::TargetVm g_vm;

std::string result_of(long result) {
    return result == 0 ? "fine" : std::string(strerrorname_np(errno));
}

std::vector<uint64_t> rest_of(std::istream& in) {
    std::vector<uint64_t> numbers;
    for (uint64_t number = 0; in >> number;) numbers.push_back(number);
    return numbers;
}

std::string map_ram(std::istream& in) {
    std::string path;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    in >> path >> offset >> bytes;
    static std::map<std::string, int> files;  // stay open, as QEMU's do
    if (!files.contains(path)) files[path] = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, files[path],
                        static_cast<off_t>(offset));
    if (data == MAP_FAILED) return result_of(-1);
    g_views.push_back({static_cast<char*>(data), bytes});
    return "fine";
}

std::string map_pair(std::istream& in) {
    std::string paths[2];
    uint64_t bytes = 0;
    in >> paths[0] >> paths[1] >> bytes;
    auto* data = static_cast<char*>(
        ::mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (int i = 0; i < 2; ++i) {
        const int file = ::open(paths[i].c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (::ftruncate(file, static_cast<off_t>(bytes)) != 0) return result_of(-1);
        if (::mmap(data + i * bytes, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
                   0) == MAP_FAILED)
            return result_of(-1);
    }
    g_views.push_back({data, 2 * bytes});
    return "fine";
}

std::string set_slot(std::istream& in) {
    uint32_t id = 0;
    uint64_t guest_address = 0;
    size_t view = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint32_t flags = 0;
    in >> id >> guest_address >> view >> offset >> bytes >> flags;
    if (view >= g_views.size()) return "there is no such view";
    kvm_userspace_memory_region region{};
    region.slot = id;
    region.flags = flags;
    region.guest_phys_addr = guest_address;
    region.memory_size = bytes;
    region.userspace_addr = reinterpret_cast<uint64_t>(g_views[view].data) + offset;
    const int result = ::ioctl(g_vm.fd(), KVM_SET_USER_MEMORY_REGION, &region);
    if (result == 0) g_slot_pages[id] = bytes / kPage;
    return result_of(result);
}

std::string get_log(std::istream& in, bool past_library) {
    uint32_t id = 0;
    in >> id;
    std::vector<uint64_t> words((g_slot_pages[id] + 63) / 64);
    kvm_dirty_log argument{};
    argument.slot = id;
    argument.dirty_bitmap = words.data();
    const long result = past_library ? ::syscall(SYS_ioctl, g_vm.fd(), KVM_GET_DIRTY_LOG, &argument)
                                     : ::ioctl(g_vm.fd(), KVM_GET_DIRTY_LOG, &argument);
    if (result != 0) return result_of(result);
    std::ostringstream out;
    out << "pages";
    for (uint64_t page = 0; page < words.size() * 64; ++page)
        if ((words[page / 64] >> page % 64 & 1) != 0) out << ' ' << page;
    return out.str();
}

std::string clear_log(std::istream& in) {
    kvm_clear_dirty_log argument{};
    in >> argument.slot >> argument.first_page >> argument.num_pages;
    std::vector<uint64_t> words((argument.num_pages + 63) / 64);
    for (const uint64_t page : rest_of(in)) {
        const uint64_t at = page - argument.first_page;
        if (at / 64 < words.size()) words[at / 64] |= uint64_t{1} << at % 64;
    }
    argument.dirty_bitmap = words.data();
    // The request as int, as QEMU passes it: its upper half is ones then.
    const int request = static_cast<int>(KVM_CLEAR_DIRTY_LOG);
    return result_of(::ioctl(g_vm.fd(), static_cast<unsigned long>(request), &argument));
}

std::string drive_vcpu(const std::string& command, std::istream& in) {
    size_t index = 0;
    in >> index;
    if (index >= g_vm.vcpus.size()) return "there is no such vCPU";
    godwit::TargetVcpu& vcpu = g_vm.vcpus[index];
    godwit::GuestWork work{.value = ++g_counter};
    std::string error;
    if (command == "write") {
        work.list = rest_of(in);
        error = vcpu.run(work);
    } else if (command == "stride") {
        work.kind = godwit::GuestWork::Kind::kStride;
        in >> work.first >> work.step >> work.count;
        error = vcpu.run(work);
    } else if (command == "random" || command == "run") {
        work.kind = godwit::GuestWork::Kind::kRandom;
        uint64_t pages = 1;
        work.count = 1000;
        in >> work.value >> work.first >> pages;
        uint64_t count = 0;
        if (in >> count) work.count = count;
        work.page_mask = pages - 1;
        if (command == "run") {
            vcpu.start(work);
        } else {
            error = vcpu.run(work);
        }
    } else if (command == "start-list") {
        work.list = rest_of(in);
        vcpu.start(work, false);
    } else if (command == "await") {
        error = vcpu.await();
    } else if (command == "halt") {
        error = vcpu.halt();
    } else if (command == "kick") {
        vcpu.kick();
    } else if (command == "pieces") {
        return std::to_string(vcpu.pieces());
    } else {  // cpu: the vCPU thread's run time and the time, both in ns
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC, &now);
        return std::to_string(vcpu.cpu_time_ns()) + ' ' +
               std::to_string(now.tv_sec * 1'000'000'000 + now.tv_nsec);
    }
    return error.empty() ? "fine" : error;
}

volatile uint64_t& word(size_t view, uint64_t page) {
    return *reinterpret_cast<volatile uint64_t*>(g_views[view].data + page * kPage);
}

std::string use_view(const std::string& command, std::istream& in) {
    size_t view = 0;
    in >> view;
    if (view >= g_views.size()) return "there is no such view";
    const std::vector<uint64_t> numbers = rest_of(in);
    if (command == "unmap") {
        return result_of(::munmap(g_views[view].data, g_views[view].bytes));
    }
    if (command == "store") {
        for (const uint64_t page : numbers) word(view, page) = ++g_counter;
        return "fine";
    }
    if (numbers.empty()) return "which page?";
    if (command == "load") return std::to_string(word(view, numbers[0]));
    const int advice = command == "remove" ? MADV_REMOVE : MADV_DONTNEED;
    return result_of(
        ::madvise(g_views[view].data + numbers[0] * kPage, numbers.at(1) * kPage, advice));
}

std::string punch(std::istream& in) {
    std::string path;
    off_t page = 0;
    off_t count = 0;
    in >> path >> page >> count;
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    const std::string result =
        result_of(::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              page * static_cast<off_t>(kPage), count * static_cast<off_t>(kPage)));
    ::close(file);
    return result;
}

sigjmp_buf g_touched;
volatile uint64_t g_bus_address = 0;

void note_bus_error(int, siginfo_t* info, void*) {
    g_bus_address = reinterpret_cast<uint64_t>(info->si_addr);
    siglongjmp(g_touched, 1);
}

std::string handle_sigbus() {
    struct sigaction action {};
    struct sigaction old {};
    action.sa_sigaction = note_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigaddset(&action.sa_mask, SIGHUP);
    if (::sigaction(SIGBUS, nullptr, &old) != 0 || old.sa_handler != SIG_DFL) return "not default";
    if (::sigaction(SIGBUS, &action, &old) != 0 || old.sa_handler != SIG_DFL) return "not default";
    if (::sigaction(SIGBUS, &action, &old) != 0 || old.sa_sigaction != note_bus_error)
        return "another handler";
    if (::sigaction(SIGBUS, nullptr, &old) != 0 || old.sa_sigaction != note_bus_error)
        return "another handler";
    return (old.sa_flags & SA_SIGINFO) != 0 && sigismember(&old.sa_mask, SIGHUP) == 1
               ? "fine"
               : "another action";
}

std::string touch(std::istream& in) {
    uint64_t address = 0;
    in >> address;
    if (sigsetjmp(g_touched, 1) != 0) return "bus error at " + std::to_string(g_bus_address);
    (void)*reinterpret_cast<volatile uint64_t*>(address);
    return "fine";
}

std::string count_open_files() {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
        count += entry.is_symlink() ? 1 : 0;
    return std::to_string(count);
}

// What the resident's threads held at the fork must not hold the child.
std::string fork_child(std::istream& in) {
    std::string path;
    size_t view = 0;
    in >> path >> view;
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(15);
        ::madvise(g_views[view].data, kPage, MADV_REMOVE);
        const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
        ::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kPage);
        struct sigaction action {};
        ::sigaction(SIGBUS, nullptr, &action);
        const bool vm = ::ioctl(::open("/dev/kvm", O_RDWR | O_CLOEXEC), KVM_CREATE_VM, 0) >= 0;
        ::_exit(vm ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status == 0 ? "fine" : "the child ended with " + std::to_string(status);
}

std::string child_environment() {
    FILE* child = ::popen("echo \"$LD_PRELOAD|$GODWIT_RESIDENT_FD\"", "re");
    char line[256] = {};
    std::string text = std::fgets(line, sizeof line, child) != nullptr ? line : "";
    ::pclose(child);
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return "child " + text;
}

std::string do_command(const std::string& line) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    if (command == "ram") return map_ram(in);
    if (command == "pair") return map_pair(in);
    if (command == "slot") return set_slot(in);
    if (command == "get") return get_log(in, false);
    if (command == "kernel-get") return get_log(in, true);
    if (command == "clear") return clear_log(in);
    if (command == "punch") return punch(in);
    if (command == "address-spaces")
        return std::to_string(::ioctl(g_vm.fd(), KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE));
    if (command == "handle-sigbus") return handle_sigbus();
    if (command == "touch") return touch(in);
    if (command == "open-files") return count_open_files();
    if (command == "fork") return fork_child(in);
    if (command == "environment") return child_environment();
    for (const char* of_view : {"unmap", "store", "load", "remove", "forget"})
        if (command == of_view) return use_view(command, in);
    for (const char* of_vcpu : {"write", "stride", "random", "run", "halt", "kick", "pieces", "cpu",
                                "start-list", "await"})
        if (command == of_vcpu) return drive_vcpu(command, in);
    return "what?";
}

}  // namespace

int main(int count, char** arguments) {
    godwit::TargetOptions options;
    bool has_vm = true;
    for (int i = 1; i < count; ++i) {
        const std::string argument = arguments[i];
        if (argument.starts_with("manual=")) options.manual_protect = std::stoi(argument.substr(7));
        if (argument.starts_with("vcpus="))
            options.vcpus = static_cast<unsigned>(std::stoi(argument.substr(6)));
        if (argument == "ring") options.ring = true;
        if (argument == "no-kvm") has_vm = false;
    }
    const std::string error = has_vm ? g_vm.create(options) : "";
    std::cout << (error.empty() ? "ready" : error) << std::endl;
    for (std::string line; std::getline(std::cin, line);)
        std::cout << do_command(line) << std::endl;
    std::_Exit(0);
}
