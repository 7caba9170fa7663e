#include "engine/guest/libvirt/connection.h"

#include <fmt/format.h>
#include <libvirt/virterror.h>

#include <array>
#include <cstdlib>
#include <thread>

#include "engine/base/wait.h"
#include "engine/guest/libvirt/late_calls.h"

namespace godwit {
namespace {

// Seconds between two signs of life asked of libvirtd, and how many may stay out.
constexpr Duration kOpenLimit = std::chrono::seconds(20);
constexpr int kKeepAliveSeconds = 5;
constexpr unsigned int kKeepAliveCount = 5;

absl::StatusCode code_of(const virError& error) {
    switch (error.code) {
        case VIR_ERR_NO_DOMAIN:
            return absl::StatusCode::kNotFound;
        case VIR_ERR_DOM_EXIST:
            return absl::StatusCode::kAlreadyExists;
        case VIR_ERR_AUTH_FAILED:
        case VIR_ERR_AUTH_CANCELLED:
        case VIR_ERR_AUTH_UNAVAILABLE:
        case VIR_ERR_ACCESS_DENIED:
        case VIR_ERR_OPERATION_DENIED:
            return absl::StatusCode::kPermissionDenied;
        case VIR_ERR_OPERATION_TIMEOUT:
            return absl::StatusCode::kDeadlineExceeded;
        case VIR_ERR_NO_CONNECT:
        case VIR_ERR_INVALID_CONN:
        case VIR_ERR_RPC:
        case VIR_ERR_SYSTEM_ERROR:
            return absl::StatusCode::kUnavailable;
        default:
            return error.domain == VIR_FROM_RPC ? absl::StatusCode::kUnavailable
                                                : absl::StatusCode::kFailedPrecondition;
    }
}

// libvirt has one event loop a process, whoever uses it.
class EventLoop {
  public:
    EventLoop() {
        ::virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});  // it would print to stderr
        if (::virInitialize() < 0 || ::virEventRegisterDefaultImpl() < 0) return;
        timer_ = ::virEventAddTimeout(
            -1, [](int, void*) {}, nullptr, nullptr);
        thread_ = std::jthread([](const std::stop_token& stop) {
            set_thread_name("libvirt-events");
            while (!stop.stop_requested() && ::virEventRunDefaultImpl() == 0) continue;
        });
    }
    ~EventLoop() {
        thread_.request_stop();
        if (timer_ >= 0) ::virEventUpdateTimeout(timer_, 0);
    }
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;
    [[nodiscard]] bool runs() const { return timer_ >= 0; }

  private:
    int timer_ = -1;
    std::jthread thread_;
};

bool start_event_loop() {
    static const EventLoop loop;
    return loop.runs();
}

}  // namespace

absl::Status libvirt_status(std::string_view what) {
    const virError* error = ::virGetLastError();
    if (error == nullptr || error->code == VIR_ERR_OK)
        return absl::UnknownError(fmt::format("{}: libvirt does not say why", what));
    return absl::Status(code_of(*error),
                        fmt::format("{}: {}", what, error->message ? error->message : "?"));
}

std::string take_text(char* text) {
    std::string copy = text == nullptr ? "" : text;
    std::free(text);  // NOLINT(cppcoreguidelines-no-malloc): libvirt's
    return copy;
}

bool LibvirtConnection::is_embedded() const { return uri_.find(":///embed") != std::string::npos; }

std::string LibvirtConnection::embedded_root() const {
    const size_t at = uri_.find("root=");
    if (!is_embedded() || at == std::string::npos) return {};
    return uri_.substr(at + 5, uri_.find('&', at) - at - 5);
}

namespace {

absl::StatusOr<ConnectHandle> open_connection(const std::string& uri) {
    ConnectHandle fresh(::virConnectOpen(uri.c_str()), [](virConnect* connection) {
        if (connection != nullptr) ::virConnectClose(connection);
    });
    if (!fresh) return libvirt_status(fmt::format("Cannot connect to libvirt at {}", uri));
    // Local drivers have none, and need none.
    if (::virConnectSetKeepAlive(fresh.get(), kKeepAliveSeconds, kKeepAliveCount) < 0)
        ::virResetLastError();
    return fresh;
}

}  // namespace

absl::StatusOr<ConnectHandle> LibvirtConnection::get() {
    const std::lock_guard lock(mutex_);
    if (connection_ && ::virConnectIsAlive(connection_.get()) == 1) return connection_;
    connection_.reset();
    GODWIT_ASSIGN_OR_RETURN(connection_, open_another());
    return connection_;
}

absl::StatusOr<ConnectHandle> LibvirtConnection::open_another() const {
    if (!start_event_loop()) return absl::InternalError("libvirt's event loop can't be started");
    // A libvirtd that hangs takes the connection and says nothing.
    absl::StatusOr<ConnectHandle> opened =
        result_within<ConnectHandle>(kOpenLimit, [uri = uri_] { return open_connection(uri); });
    if (absl::IsDeadlineExceeded(opened.status()))
        return absl::UnavailableError(
            fmt::format("Cannot connect to libvirt at {}: it does not answer", uri_));
    return opened;
}

absl::StatusOr<DomainHandle> domain_by_uuid(const ConnectHandle& connection,
                                            const std::string& uuid) {
    DomainHandle domain(::virDomainLookupByUUIDString(connection.get(), uuid.c_str()));
    if (!domain) return libvirt_status("Cannot look a domain up");
    return domain;
}

absl::StatusOr<DomainHandle> find_domain(const ConnectHandle& connection, const std::string& name) {
    DomainHandle domain(::virDomainLookupByName(connection.get(), name.c_str()));
    if (domain) return domain;
    absl::Status by_name = libvirt_status("Cannot look the domain up");
    if (absl::IsNotFound(by_name)) {
        if (absl::StatusOr<DomainHandle> by_uuid = domain_by_uuid(connection, name); by_uuid.ok())
            return by_uuid;
        return absl::NotFoundError(
            fmt::format("libvirt at this host has no domain of that name or UUID: {}", name));
    }
    return by_name;
}

std::string domain_uuid(virDomain* domain) {
    std::array<char, VIR_UUID_STRING_BUFLEN> text{};
    ::virDomainGetUUIDString(domain, text.data());
    return text.data();
}

}  // namespace godwit
