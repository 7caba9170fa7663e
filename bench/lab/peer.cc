#include "bench/lab/peer.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

namespace godwit {
namespace {

constexpr Duration kCommandLimit = std::chrono::seconds(30);
constexpr size_t kMaxComplaint = 400;

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> Peer::start(PeerSetup setup, Side side, EventBoard& board) {
    std::array<int, 2> sockets{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0)
        return errno_status(errno, "socketpair");
    UniqueFd ours(sockets[0]);
    UniqueFd theirs(sockets[1]);
    setup.qmp_fd = theirs.get();
    std::vector<int> kept{theirs.get()};
    if (setup.tap_fd >= 0) kept.push_back(setup.tap_fd);
    GODWIT_ASSIGN_OR_RETURN(Child process, Child::start(peer_argv(setup), kept));
    std::unique_ptr<Peer> peer(new Peer(std::move(process)));
    theirs.reset();
    auto qmp = QmpClient::handshake(std::move(ours), Clock::system().now() + kCommandLimit,
                                    board.listener(side));
    if (!qmp.ok()) return peer->explain(qmp.status());
    peer->qmp_ = *std::move(qmp);
    board.watch(peer->process_.pidfd());
    return peer;
}

absl::Status Peer::explain(const absl::Status& status) {
    // It may still be writing why it ends.
    if (!absl::IsUnavailable(status) ||
        !process_.wait(Clock::system().now() + std::chrono::seconds(1), -1).ok())
        return status;
    return annotate(status, fmt::format("QEMU ended: {}", process_.err()));
}

absl::StatusOr<Json> Peer::command(std::string_view name, Json arguments) {
    auto reply = qmp_->execute(name, std::move(arguments), kCommandLimit);
    if (!reply.ok()) return explain(reply.status());
    return reply;
}

std::string Peer::complaint() {
    std::string text;
    if (const auto migration = command("query-migrate"); migration.ok())
        text = json_text(*migration, "error-desc");
    const std::string written = process_.err();
    const size_t begin = written.size() > kMaxComplaint ? written.size() - kMaxComplaint : 0;
    if (!written.empty()) text += (text.empty() ? "" : "; ") + written.substr(begin);
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

absl::Status Peer::set_capabilities(const std::vector<std::string>& names) {
    Json capabilities = Json::array();
    for (const std::string& name : names)
        capabilities.push_back({{"capability", name}, {"state", true}});
    return command("migrate-set-capabilities", {{"capabilities", std::move(capabilities)}})
        .status();
}

absl::StatusOr<uint64_t> Peer::host_address(uint64_t guest_address) {
    GODWIT_ASSIGN_OR_RETURN(
        const Json answer,
        command("human-monitor-command",
                {{"command-line", fmt::format("gpa2hva {:#x}", guest_address)}}));
    return parse_host_address(answer.is_string() ? answer.get<std::string>() : "");
}

absl::StatusOr<std::string> Peer::listen(const std::string& address) {
    GODWIT_RETURN_IF_ERROR(
        command("migrate-incoming", {{"uri", fmt::format("tcp:{}:0", address)}}).status());
    GODWIT_ASSIGN_OR_RETURN(const Json migration, command("query-migrate"));
    return parse_listening_uri(migration);
}

absl::StatusOr<CpuSeconds> cpu_of_both(const std::unique_ptr<Peer>& source,
                                       const std::unique_ptr<Peer>& destination) {
    CpuSeconds sum;
    for (const Peer* peer : {source.get(), destination.get()}) {
        if (peer == nullptr) continue;
        GODWIT_ASSIGN_OR_RETURN(const CpuSeconds cpu, cpu_of(peer->pid()));
        sum += cpu;
    }
    return sum;
}

absl::StatusOr<uint64_t> parse_host_address(std::string_view answer) {
    constexpr std::string_view kIs = " is 0x";
    const size_t at = answer.rfind(kIs);
    uint64_t address = 0;
    if (at != std::string_view::npos) {
        const char* begin = answer.data() + at + kIs.size();
        std::from_chars(begin, answer.data() + answer.size(), address, 16);
    }
    if (address == 0)
        return absl::InternalError(fmt::format("gpa2hva answered \"{}\"", answer.substr(0, 200)));
    return address;
}

absl::StatusOr<std::string> parse_listening_uri(const Json& migration) {
    const auto addresses = migration.find("socket-address");
    if (addresses == migration.end() || !addresses->is_array() || addresses->empty())
        return absl::InternalError("QEMU does not say where it listens");
    const Json& first = addresses->front();
    return fmt::format("tcp:{}:{}", json_text(first, "host"), json_text(first, "port"));
}

}  // namespace godwit
