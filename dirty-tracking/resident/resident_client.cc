#include "dirty-tracking/resident/resident_client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "engine/base/wait.h"

namespace godwit {
namespace {

using namespace resident;

// Switching the log on for a big guest walks all of its page tables; what follows is short.
constexpr Duration kArmDeadline = std::chrono::seconds(30);
// Rows that a resident may have at most; one that promises more is not followed.
constexpr uint32_t kMaxRows = 4096;

absl::Status check_loaded(pid_t pid) {
    std::ifstream maps(fmt::format("/proc/{}/maps", pid));
    if (!maps) return absl::NotFoundError(fmt::format("there is no process {}", pid));
    for (std::string line; std::getline(maps, line);)
        if (line.find(kLibraryName) != std::string::npos) return absl::OkStatus();
    return absl::NotFoundError(
        fmt::format("{} is not in process {} (was LD_PRELOAD stripped, or the VM started without "
                    "the resident?)",
                    kLibraryName, pid));
}

absl::StatusOr<UniqueFd> connect_socket(const std::string& path) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    if (path.size() >= sizeof address.sun_path)
        return absl::InvalidArgumentError(
            fmt::format("{}: longer than a socket's path may be", path));
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return errno_status(errno, "socket");
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return fd;
    if (errno == ENOENT || errno == ECONNREFUSED)
        return absl::NotFoundError(
            fmt::format("the resident's socket {} has gone ({})", path, strerrorname_np(errno)));
    if (errno == EAGAIN)
        return absl::UnavailableError(fmt::format("{}: the resident accepts nobody", path));
    return errno_status(errno, path);
}

// The reply's code as a status.
absl::Status status_of(const Header& header, const char* text) {
    switch (header.code) {
        case Code::kOk:
            return absl::OkStatus();
        case Code::kBusy:
        case Code::kProblem:
        case Code::kNotStarted:
            return absl::FailedPreconditionError(
                fmt::format("resident: {}", std::string_view(text, ::strnlen(text, kTextBytes))));
        case Code::kVersion:
            return absl::FailedPreconditionError(
                fmt::format("the resident refuses protocol version {}: {} in QEMU is of another "
                            "Godwit; restart the VM, or migrate it without the resident",
                            kProtocolVersion, kLibraryName));
        case Code::kBadMessage:
            break;
    }
    return absl::InternalError(fmt::format("the resident does not understand this agent: {}",
                                           std::string_view(text, ::strnlen(text, kTextBytes))));
}

absl::Status lost() {
    return absl::UnavailableError(
        "the connection to the resident is lost; dirty log and throttle are off");
}

template <typename Body>
Body request_of(Kind kind) {
    Body body{};
    body.header = {.kind = kind, .length = sizeof(Body)};
    return body;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ResidentClient>> ResidentClient::connect(
    const std::string& socket_path, pid_t pid, Duration deadline) {
    // A listening socket accepts connections whether anybody serves it or not.
    GODWIT_RETURN_IF_ERROR(check_loaded(pid));
    GODWIT_ASSIGN_OR_RETURN(UniqueFd socket, connect_socket(socket_path));
    return greet(std::move(socket), deadline);
}

absl::StatusOr<std::unique_ptr<ResidentClient>> ResidentClient::greet(UniqueFd socket,
                                                                      Duration deadline) {
    std::unique_ptr<ResidentClient> client(new ResidentClient(std::move(socket), deadline));
    GODWIT_RETURN_IF_ERROR(client->receive_greeting());
    return client;
}

absl::Status ResidentClient::receive_greeting() {
    Reply greeting;
    const absl::Status status =
        receive_message(&greeting, sizeof greeting, Clock::system().now() + deadline_);
    return status.ok() ? status_of(greeting.header, greeting.text) : status;
}

absl::Status ResidentClient::send_message(const void* message, size_t bytes, int memory) {
    iovec data{const_cast<void*>(message), bytes};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    if (memory >= 0) {
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        cmsghdr* part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof memory);
        std::memcpy(CMSG_DATA(part), &memory, sizeof memory);
    }
    ssize_t sent = 0;
    while ((sent = ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL)) < 0 && errno == EINTR) {
    }
    if (sent == static_cast<ssize_t>(bytes)) return absl::OkStatus();
    socket_.reset();
    return lost();
}

// Any reply that is not whole ends the connection: what follows it could not be told apart.
absl::Status ResidentClient::receive_message(void* message, size_t bytes, MonotonicTime deadline) {
    const absl::Status ready = wait_readable(socket_.get(), -1, deadline);
    if (!ready.ok()) {
        socket_.reset();
        return absl::IsDeadlineExceeded(ready)
                   ? absl::DeadlineExceededError("the resident does not answer")
                   : ready;
    }
    // A refusal may be a shorter message than the reply that was asked for.
    const ssize_t got = ::recv(socket_.get(), message, bytes, 0);
    auto* header = static_cast<Header*>(message);
    if (got < static_cast<ssize_t>(sizeof(Reply))) {
        socket_.reset();
        return lost();
    }
    if (header->magic != kMagic || header->version != kProtocolVersion) {
        const unsigned version = header->version;
        socket_.reset();
        return absl::FailedPreconditionError(fmt::format(
            "the resident speaks protocol version {}, this agent {}: restart the VM, or "
            "migrate it without the resident",
            version, kProtocolVersion));
    }
    if (header->length != static_cast<size_t>(got) ||
        (header->code == Code::kOk && static_cast<size_t>(got) != bytes)) {
        socket_.reset();
        return absl::InternalError("the resident's reply has a wrong length");
    }
    return absl::OkStatus();
}

absl::Status ResidentClient::ask(void* request, size_t request_bytes, void* reply,
                                 size_t reply_bytes, Duration deadline, int memory) {
    const std::scoped_lock lock(mutex_);
    if (!socket_.valid()) return lost();
    GODWIT_RETURN_IF_ERROR(send_message(request, request_bytes, memory));
    GODWIT_RETURN_IF_ERROR(receive_message(reply, reply_bytes, Clock::system().now() + deadline));
    // Every reply begins as a Reply does.
    const auto* begin = static_cast<const Reply*>(reply);
    return status_of(begin->header, begin->text);
}

absl::Status ResidentClient::ask_simply(void* request, size_t request_bytes, Duration deadline,
                                        int memory) {
    Reply reply;
    return ask(request, request_bytes, &reply, sizeof reply, deadline, memory);
}

absl::StatusOr<ResidentState> ResidentClient::state() {
    auto request = request_of<Request>(Kind::kState);
    StateReply reply;
    GODWIT_RETURN_IF_ERROR(ask(&request, sizeof request, &reply, sizeof reply, deadline_));
    return ResidentState{.has_kvm = reply.has_kvm != 0,
                         .manual_protect = reply.manual_protect != 0,
                         .initially_set = reply.initially_set != 0,
                         .dirty_ring = reply.dirty_ring != 0,
                         .log_on = reply.log_on != 0,
                         .slots = reply.slots,
                         .tracked_slots = reply.tracked_slots,
                         .unmappable_slots = reply.unmappable_slots,
                         .vcpus = reply.vcpus,
                         .held_percent = reply.held_percent,
                         .holds = reply.holds,
                         .kicks = reply.kicks,
                         .problem = std::string(reply.text, ::strnlen(reply.text, kTextBytes))};
}

template <typename Row, typename Visit>
absl::Status ResidentClient::list(Kind kind, Visit&& visit) {
    auto request = request_of<ListRequest>(kind);
    ListReply<Row> reply{};
    do {
        GODWIT_RETURN_IF_ERROR(ask(&request, sizeof request, &reply, sizeof reply, deadline_));
        if (reply.count > kRowLimit || reply.total > kMaxRows)
            return absl::InternalError("the resident's list is longer than it may be");
        for (uint32_t i = 0; i < reply.count; ++i) visit(reply.rows[i]);
        request.first += reply.count;
    } while (reply.count != 0 && request.first < reply.total);
    return absl::OkStatus();
}

absl::StatusOr<std::vector<ResidentView>> ResidentClient::views() {
    std::vector<ResidentView> views;
    GODWIT_RETURN_IF_ERROR(list<ViewRow>(Kind::kViews, [&views](const ViewRow& row) {
        views.push_back({.device = row.device,
                         .inode = row.inode,
                         .offset = row.offset,
                         .length = row.length,
                         .kvm_address = row.kvm_address,
                         .qemu_address = row.qemu_address});
    }));
    return views;
}

absl::StatusOr<std::vector<ResidentSlot>> ResidentClient::slots() {
    std::vector<ResidentSlot> slots;
    GODWIT_RETURN_IF_ERROR(list<SlotRow>(Kind::kSlots, [&slots](const SlotRow& row) {
        slots.push_back({.id = row.id & 0xffff,
                         .address_space = row.id >> 16,
                         .guest_address = row.guest_address,
                         .length = row.length,
                         .device = row.device,
                         .inode = row.inode,
                         .offset = row.offset,
                         .flags = row.flags,
                         .kind = row.kind,
                         .tracked = row.tracked != 0});
    }));
    return slots;
}

absl::Status ResidentClient::start_log(std::span<const RamBlock> blocks, ResidentLog kind) {
    if (blocks.size() > kBlockLimit)
        return absl::FailedPreconditionError(
            fmt::format("the resident logs {} RAM blocks at most", kBlockLimit));
    if (blocks.empty()) return absl::InvalidArgumentError("no RAM blocks to log");
    std::vector<uint64_t> page_counts;
    for (const RamBlock& block : blocks) page_counts.push_back(block.page_count());
    GODWIT_ASSIGN_OR_RETURN(bitmaps_, SharedBitmaps::create(page_counts));
    auto request = request_of<StartRequest>(Kind::kStart);
    request.flags = kind == ResidentLog::kDiscardsOnly ? kDiscardsOnly : 0;
    request.block_count = static_cast<uint32_t>(blocks.size());
    for (size_t i = 0; i < blocks.size(); ++i)
        request.blocks[i] = {blocks[i].device, blocks[i].inode, page_counts[i], bitmaps_.offset(i)};
    return ask_simply(&request, sizeof request, kArmDeadline, bitmaps_.memory());
}

absl::Status ResidentClient::collect(PageSet& dirty) {
    auto request = request_of<Request>(Kind::kCollect);
    GODWIT_RETURN_IF_ERROR(ask_simply(&request, sizeof request, deadline_));
    return bitmaps_.take(dirty);
}

absl::Status ResidentClient::rearm(BlockIndex block, PageRange range) {
    auto request = request_of<ClearRequest>(Kind::kClear);
    request.block = block;
    request.begin_page = range.begin;
    request.end_page = range.end;
    return ask_simply(&request, sizeof request, deadline_);
}

absl::Status ResidentClient::stop_log() {
    auto request = request_of<Request>(Kind::kStop);
    return ask_simply(&request, sizeof request, kArmDeadline);
}

absl::Status ResidentClient::set_throttle(unsigned held_percent, std::chrono::milliseconds period) {
    auto request = request_of<ThrottleRequest>(Kind::kThrottle);
    if (held_percent > kMaxHeldPercent || period.count() < kMinPeriodMs ||
        period.count() > kMaxPeriodMs)
        return absl::InvalidArgumentError(
            "a throttle of 0 to 99 percent, a period of 10 ms to 1 min");
    request.held_percent = held_percent;
    request.period_ms = static_cast<uint32_t>(period.count());
    return ask_simply(&request, sizeof request, deadline_);
}

}  // namespace godwit
