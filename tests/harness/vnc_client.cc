#include "tests/harness/vnc_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <thread>

#include "engine/base/unique_fd.h"

namespace godwit::testing {
namespace {

constexpr uint8_t kVncAuthentication = 2;

// A thread of its own enters the namespace; the socket stays there.
UniqueFd connect_in_network_of(pid_t pid, uint16_t port) {
    UniqueFd socket;
    std::thread([&] {
        const UniqueFd network(
            ::open(fmt::format("/proc/{}/ns/net", pid).c_str(), O_RDONLY | O_CLOEXEC));
        if (::setns(network.get(), CLONE_NEWNET) != 0) return;
        UniqueFd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(made.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0)
            socket = std::move(made);
    }).join();
    return socket;
}

bool receive_all(int fd, void* data, size_t bytes) {
    return ::recv(fd, data, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
}

bool send_all(int fd, const void* data, size_t bytes) {
    return ::send(fd, data, bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
}

// The password as a DES key, each byte's bits in reverse.
std::string key_of(const std::string& password) {
    std::string hex;
    for (size_t i = 0; i < 8; ++i) {
        const auto byte = static_cast<uint8_t>(i < password.size() ? password[i] : 0);
        unsigned reversed = 0;
        for (int bit = 0; bit < 8; ++bit) reversed |= ((byte >> bit) & 1U) << (7 - bit);
        hex += fmt::format("{:02x}", reversed);
    }
    return hex;
}

std::string encrypt(const std::array<char, 16>& challenge, const std::string& password) {
    std::string path = "/tmp/gw-vnc-XXXXXX";
    const UniqueFd file(::mkstemp(path.data()));
    (void)!::write(file.get(), challenge.data(), challenge.size());
    const std::string key = key_of(password);
    // Thrice the same key is single DES, which OpenSSL has no more.
    const CommandResult result =
        run_command({"openssl", "enc", "-des-ede3", "-K", key + key + key, "-nopad", "-in", path});
    ::unlink(path.c_str());
    return result.out;
}

}  // namespace

VncAnswer try_vnc(pid_t pid, uint16_t port, const std::string& password) {
    const UniqueFd socket = connect_in_network_of(pid, port);
    std::array<char, 12> version{};
    uint8_t count = 0;
    if (!socket.valid() || !receive_all(socket.get(), version.data(), version.size()) ||
        !send_all(socket.get(), "RFB 003.008\n", 12) || !receive_all(socket.get(), &count, 1))
        return VncAnswer::kUnreachable;
    std::string kinds(count, '\0');
    if (!receive_all(socket.get(), kinds.data(), kinds.size())) return VncAnswer::kUnreachable;
    if (std::any_of(kinds.begin(), kinds.end(), [](char kind) { return kind != 2; }))
        return VncAnswer::kNoPassword;
    std::array<char, 16> challenge{};
    if (!send_all(socket.get(), &kVncAuthentication, 1) ||
        !receive_all(socket.get(), challenge.data(), challenge.size()))
        return VncAnswer::kUnreachable;
    const std::string answer = encrypt(challenge, password);
    uint32_t refused = 0;
    if (!send_all(socket.get(), answer.data(), answer.size()) ||
        !receive_all(socket.get(), &refused, sizeof(refused)))
        return VncAnswer::kUnreachable;
    return refused == 0 ? VncAnswer::kAccepted : VncAnswer::kRefused;
}

}  // namespace godwit::testing
