#include "engine/guest/libvirt/connection.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <thread>

#include "engine/base/wait.h"
#include "engine/guest/libvirt/late_calls.h"

namespace godwit {
namespace {

constexpr Duration kOpenLimit = std::chrono::seconds(10);
constexpr Duration kEndSeenLimit = std::chrono::seconds(10);
constexpr Duration kEndSeenPause = std::chrono::milliseconds(50);
constexpr Duration kCloseLimit = std::chrono::seconds(2);
constexpr Duration kAskLimit = std::chrono::seconds(2);
// Seconds between two signs of life asked of libvirtd, and how many may stay out.
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
            return absl::StatusCode::kUnavailable;
        default:
            // A system call that failed within libvirtd is libvirtd's answer.
            return error.domain == VIR_FROM_RPC || error.domain == VIR_FROM_REMOTE
                       ? absl::StatusCode::kUnavailable
                       : absl::StatusCode::kFailedPrecondition;
    }
}

// libvirt has one event loop a process, whoever uses it.
class EventLoop {
  public:
    EventLoop() {
        virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});  // it would print to stderr
        if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0) return;
        timer_ = virEventAddTimeout(
            -1, [](int, void*) {}, nullptr, nullptr);
        thread_ = std::jthread([](const std::stop_token& stop) {
            set_thread_name("libvirt-events");
            while (!stop.stop_requested() && virEventRunDefaultImpl() == 0) continue;
        });
    }
    ~EventLoop() {
        thread_.request_stop();
        if (timer_ >= 0) virEventUpdateTimeout(timer_, 0);
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
    const virError* error = virGetLastError();
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
    ConnectHandle fresh(virConnectOpen(uri.c_str()), [](virConnect* connection) {
        if (connection != nullptr) virConnectClose(connection);
    });
    if (!fresh) return libvirt_status(fmt::format("Cannot connect to libvirt at {}", uri));
    // Local drivers have none, and need none.
    if (virConnectSetKeepAlive(fresh.get(), kKeepAliveSeconds, kKeepAliveCount) < 0)
        virResetLastError();
    return fresh;
}

}  // namespace

LibvirtConnection::~LibvirtConnection() {
    if (connection_) done_within(kCloseLimit, kLibvirtCall, [closed = std::move(connection_)] {});
}

absl::StatusOr<ConnectHandle> LibvirtConnection::get() {
    std::unique_lock lock(mutex_);
    if (is_opening_) {
        opened_.wait(lock, [this] { return !is_opening_; });
        if (!connection_) return last_failure_;
        return connection_;
    }
    if (connection_ && virConnectIsAlive(connection_.get()) == 1) return connection_;
    is_opening_ = true;
    ConnectHandle lost = std::move(connection_);
    lock.unlock();
    lost.reset();
    absl::StatusOr<ConnectHandle> fresh = open_another();
    lock.lock();
    is_opening_ = false;
    if (fresh.ok()) connection_ = *fresh;
    last_failure_ = fresh.status();
    opened_.notify_all();
    return fresh;
}

absl::StatusOr<ConnectHandle> LibvirtConnection::open_another() const {
    GODWIT_RETURN_IF_ERROR(load_libvirt());
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
    DomainHandle domain(virDomainLookupByUUIDString(connection.get(), uuid.c_str()));
    if (!domain) return libvirt_status("Cannot look a domain up");
    return domain;
}

absl::StatusOr<DomainHandle> find_domain(const ConnectHandle& connection, const std::string& name) {
    DomainHandle domain(virDomainLookupByName(connection.get(), name.c_str()));
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

namespace {

// QEMU ends a little before libvirt has done with it.
bool has_ended_soon(virDomain* domain) {
    const MonotonicTime deadline = Clock::system().now() + kEndSeenLimit;
    std::mutex mutex;
    std::condition_variable timer;
    while (virDomainIsActive(domain) == 1) {
        if (Clock::system().now() >= deadline) return false;
        std::unique_lock lock(mutex);
        timer.wait_for(lock, kEndSeenPause);
    }
    return true;
}

}  // namespace

absl::Status undefine_domain(const std::shared_ptr<LibvirtConnection>& libvirt,
                             const std::string& uuid) {
    const absl::Status undefined = status_within(kAnswerLimit, [libvirt, uuid]() -> absl::Status {
        GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
        const absl::StatusOr<DomainHandle> found = domain_by_uuid(connection, uuid);
        if (absl::IsNotFound(found.status())) return absl::OkStatus();  // it was transient
        GODWIT_RETURN_IF_ERROR(found.status());
        if (!has_ended_soon(found->get()))
            return absl::FailedPreconditionError("it runs");  // it would become transient
        // What is nowhere else (snapshots, a saved state) is a reason to keep the definition.
        if (virDomainUndefineFlags(found->get(), VIR_DOMAIN_UNDEFINE_KEEP_NVRAM) < 0)
            return libvirt_status("libvirt");
        return absl::OkStatus();
    });
    return annotate(undefined, fmt::format("Cannot undefine domain {}", uuid));
}

absl::StatusOr<bool> starts_with_host(virDomain* domain) {
    int with_host = 0;
    if (virDomainGetAutostart(domain, &with_host) < 0)
        return libvirt_status("Cannot ask whether a domain starts with its host");
    return with_host != 0;
}

std::vector<std::string> definition_left_behind(const std::shared_ptr<LibvirtConnection>& libvirt,
                                                const std::string& uuid) {
    // The name of one that starts with the host, else nothing.
    const auto starts =
        result_within<std::string>(kAskLimit, [libvirt, uuid]() -> absl::StatusOr<std::string> {
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
            const absl::StatusOr<DomainHandle> domain = domain_by_uuid(connection, uuid);
            if (absl::IsNotFound(domain.status())) return "";
            GODWIT_RETURN_IF_ERROR(domain.status());
            GODWIT_ASSIGN_OR_RETURN(const bool with_host, starts_with_host(domain->get()));
            return with_host ? virDomainGetName(domain->get()) : "";
        });
    if (!starts.ok())
        return {fmt::format(
            "Cannot ask the source's libvirt whether it starts domain {} with its host, where it "
            "would be a second time then: {}; see virsh dominfo",
            uuid, std::string(starts.status().message()))};
    if (starts->empty()) return {};
    return {fmt::format(
        "domain {0} stays defined at the source with autostart: libvirt would start it there a "
        "second time when that host boots: virsh autostart --disable {0}",
        *starts)};
}

std::string domain_uuid(virDomain* domain) {
    std::array<char, VIR_UUID_STRING_BUFLEN> text{};
    virDomainGetUUIDString(domain, text.data());
    return text.data();
}

}  // namespace godwit
