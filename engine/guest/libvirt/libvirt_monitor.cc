#include "engine/guest/libvirt/libvirt_monitor.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/base/unique_fd.h"
#include "engine/base/wait.h"
#include "engine/guest/libvirt/late_calls.h"

namespace godwit {
namespace {

constexpr Duration kLastCalls = std::chrono::seconds(2);

std::chrono::microseconds wall_now() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::system_clock::now().time_since_epoch());
}

}  // namespace

struct LibvirtMonitor::Call {
    std::string command;
    std::string line;
    UniqueFd fd;
    std::optional<absl::StatusOr<Json>> answer;  // guarded by Work::mutex
};

// What the calling threads hold on to: one that hangs outlives the session.
struct LibvirtMonitor::Work {
    std::mutex mutex;
    std::condition_variable_any called;
    std::condition_variable_any answered;
    std::deque<std::shared_ptr<Call>> queue GODWIT_GUARDED_BY(mutex);
    size_t idle GODWIT_GUARDED_BY(mutex) = 0;
    size_t threads GODWIT_GUARDED_BY(mutex) = 0;

    void run(virDomain* domain, const std::stop_token& stop);
    static absl::StatusOr<Json> carry_out(virDomain* domain, const Call& call);
};

struct LibvirtMonitor::Sink {
    std::mutex mutex;
    std::condition_variable changed;
    OnEvent on_event GODWIT_GUARDED_BY(mutex);
    bool ended GODWIT_GUARDED_BY(mutex) = false;

    using Reference = std::shared_ptr<Sink>;
    static void forget(void* opaque) { delete static_cast<Reference*>(opaque); }

    static void on_monitor_event(virConnectPtr, virDomainPtr, const char* name, long long seconds,
                                 unsigned int micros, const char* details, void* opaque) {
        const Reference sink = *static_cast<Reference*>(opaque);
        // QEMU's clock may have failed (-1), and a wild number must not overflow.
        const auto stamp = std::chrono::seconds(std::clamp<long long>(seconds, 0, 1LL << 40)) +
                           std::chrono::microseconds(std::min(micros, 999'999U));
        const MonotonicTime at = stamp_to_monotonic(stamp, wall_now(), Clock::system().now());
        QmpEvent event{.name = name == nullptr ? "" : name, .stamp = stamp};
        if (details != nullptr) event.data = parse_json(details);
        const std::lock_guard lock(sink->mutex);
        if (sink->on_event) sink->on_event(event, at);
    }
    static int on_lifecycle(virConnectPtr, virDomainPtr, int event, int, void* opaque) {
        const Reference sink = *static_cast<Reference*>(opaque);
        if (event != VIR_DOMAIN_EVENT_STOPPED && event != VIR_DOMAIN_EVENT_CRASHED) return 0;
        const std::lock_guard lock(sink->mutex);
        sink->ended = true;
        sink->changed.notify_all();
        return 0;
    }
    static void on_close(virConnectPtr, int, void* opaque) {
        const Reference sink = *static_cast<Reference*>(opaque);
        const std::lock_guard lock(sink->mutex);
        if (sink->on_event) sink->on_event({.name = QmpSession::kLost}, Clock::system().now());
    }
};

struct LibvirtMonitor::Parts {
    ConnectHandle connection;
    std::shared_ptr<virDomain> domain;
    int monitor_events = -1;
    int lifecycle_events = -1;
    bool hears_of_close = false;
    std::mutex workers_mutex;
    std::vector<std::jthread> workers GODWIT_GUARDED_BY(workers_mutex);

    // Each of these calls waits for libvirtd.
    void take_leave() {
        if (monitor_events >= 0)
            virConnectDomainQemuMonitorEventDeregister(connection.get(), monitor_events);
        if (lifecycle_events >= 0)
            virConnectDomainEventDeregisterAny(connection.get(), lifecycle_events);
        if (hears_of_close) virConnectUnregisterCloseCallback(connection.get(), &Sink::on_close);
        const std::lock_guard lock(workers_mutex);
        workers.clear();  // joined
    }
};

absl::StatusOr<std::unique_ptr<QmpSession>> LibvirtMonitor::open(
    std::shared_ptr<LibvirtConnection> libvirt, const std::string& uuid, int domain_id,
    MonotonicTime deadline, OnEvent on_event) {
    auto sink = std::make_shared<Sink>();
    {
        const std::lock_guard lock(sink->mutex);
        sink->on_event = std::move(on_event);
    }
    auto monitor = result_within<std::unique_ptr<QmpSession>>(
        deadline - Clock::system().now(), [libvirt = std::move(libvirt), uuid, domain_id, sink] {
            return open_now(*libvirt, uuid, domain_id, sink);
        });
    if (monitor.ok()) return monitor;
    // One that comes too late is to tell nobody.
    const std::lock_guard lock(sink->mutex);
    sink->on_event = nullptr;
    return monitor;
}

absl::StatusOr<std::unique_ptr<QmpSession>> LibvirtMonitor::open_now(
    const LibvirtConnection& libvirt, const std::string& uuid, int domain_id,
    const std::shared_ptr<Sink>& sink) {
    GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt.open_another());
    GODWIT_ASSIGN_OR_RETURN(DomainHandle domain, domain_by_uuid(connection, uuid));
    if (static_cast<int>(virDomainGetID(domain.get())) != domain_id)
        return absl::NotFoundError(fmt::format("domain {} has ended, or was started anew",
                                               virDomainGetName(domain.get())));
    std::unique_ptr<LibvirtMonitor> monitor(new LibvirtMonitor(sink));
    monitor->parts_->connection = connection;
    monitor->parts_->domain = std::move(domain);
    GODWIT_RETURN_IF_ERROR(monitor->register_events());
    return monitor;
}

LibvirtMonitor::LibvirtMonitor(std::shared_ptr<Sink> sink)
    : sink_(std::move(sink)), work_(std::make_shared<Work>()), parts_(std::make_shared<Parts>()) {}

absl::Status LibvirtMonitor::register_events() {
    virConnect* connection = parts_->connection.get();
    virDomain* domain = parts_->domain.get();
    // NOLINTBEGIN(cppcoreguidelines-owning-memory): libvirt calls Sink::forget
    auto* for_monitor = new Sink::Reference(sink_);
    parts_->monitor_events = virConnectDomainQemuMonitorEventRegister(
        connection, domain, nullptr, &Sink::on_monitor_event, for_monitor, &Sink::forget, 0);
    if (parts_->monitor_events < 0) {
        Sink::forget(for_monitor);
        return libvirt_status("Cannot hear of QEMU's events");
    }
    auto* for_lifecycle = new Sink::Reference(sink_);
    parts_->lifecycle_events = virConnectDomainEventRegisterAny(
        connection, domain, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        VIR_DOMAIN_EVENT_CALLBACK(&Sink::on_lifecycle), for_lifecycle, &Sink::forget);
    if (parts_->lifecycle_events < 0) {
        Sink::forget(for_lifecycle);
        return libvirt_status("Cannot hear of the domain's events");
    }
    auto* for_close = new Sink::Reference(sink_);
    parts_->hears_of_close =
        virConnectRegisterCloseCallback(connection, &Sink::on_close, for_close, &Sink::forget) == 0;
    // Drivers within this process have no connection to lose.
    if (!parts_->hears_of_close) Sink::forget(for_close);
    // NOLINTEND(cppcoreguidelines-owning-memory)
    return absl::OkStatus();
}

LibvirtMonitor::~LibvirtMonitor() {
    {
        const std::lock_guard lock(sink_->mutex);
        sink_->on_event = nullptr;
    }
    {
        const std::lock_guard lock(parts_->workers_mutex);
        for (std::jthread& worker : parts_->workers) worker.request_stop();
    }
    done_within(kLastCalls, kLibvirtCall, [parts = std::move(parts_)] { parts->take_leave(); });
}

absl::Status LibvirtMonitor::state() const {
    if (virConnectIsAlive(parts_->connection.get()) != 1)
        return absl::UnavailableError("the connection to libvirt is lost");
    const std::lock_guard lock(sink_->mutex);
    return sink_->ended ? absl::UnavailableError("the domain has ended") : absl::OkStatus();
}

bool LibvirtMonitor::wait_closed(Duration limit) const {
    std::unique_lock lock(sink_->mutex);
    return sink_->changed.wait_for(lock, limit, [this] { return sink_->ended; });
}

absl::StatusOr<Json> LibvirtMonitor::execute(std::string_view command, Json arguments,
                                             Duration limit, int fd_to_pass) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    GODWIT_RETURN_IF_ERROR(annotate(state(), command));
    Json message{{"execute", command}};
    if (!arguments.is_null() && !arguments.empty()) message["arguments"] = std::move(arguments);
    auto call = std::make_shared<Call>();
    call->command = std::string(command);
    call->line = message.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (fd_to_pass >= 0) {
        // A call that comes too late still holds it.
        call->fd.reset(::fcntl(fd_to_pass, F_DUPFD_CLOEXEC, 0));
        if (!call->fd.valid()) return errno_status(errno, "F_DUPFD_CLOEXEC");
    }
    std::unique_lock lock(work_->mutex);
    if (work_->idle <= work_->queue.size()) {
        if (work_->threads >= kMaxCalls)
            return absl::ResourceExhaustedError(
                fmt::format("{}: {} calls of libvirt wait already", command, kMaxCalls));
        ++work_->threads;
        const std::lock_guard workers_lock(parts_->workers_mutex);
        parts_->workers.emplace_back(
            [work = work_, domain = parts_->domain](const std::stop_token& stop) {
                work->run(domain.get(), stop);
            });
    }
    work_->queue.push_back(call);
    work_->called.notify_one();
    if (wait_for_late_call(lock, work_->answered, deadline,
                           [&] { return call->answer.has_value(); }))
        return *std::move(call->answer);
    std::erase(work_->queue, call);
    return absl::DeadlineExceededError(
        fmt::format("{}: no answer from libvirt within {:.1f} s: does libvirtd hang?", command,
                    std::chrono::duration<double>(limit).count()));
}

void LibvirtMonitor::Work::run(virDomain* domain, const std::stop_token& stop) {
    set_thread_name("libvirt-call");
    std::unique_lock lock(mutex);
    while (true) {
        ++idle;
        const bool is_called = called.wait(lock, stop, [this] { return !queue.empty(); });
        --idle;
        if (!is_called || stop.stop_requested()) break;
        const std::shared_ptr<Call> call = std::move(queue.front());
        queue.pop_front();
        lock.unlock();
        absl::StatusOr<Json> answer = carry_out(domain, *call);
        lock.lock();
        call->answer = std::move(answer);
        answered.notify_all();
    }
}

absl::StatusOr<Json> LibvirtMonitor::Work::carry_out(virDomain* domain, const Call& call) {
    char* text = nullptr;
    int fd = call.fd.get();
    const int done = fd >= 0 ? virDomainQemuMonitorCommandWithFiles(domain, call.line.c_str(), 1,
                                                                    &fd, nullptr, nullptr, &text, 0)
                             : virDomainQemuMonitorCommand(domain, call.line.c_str(), &text, 0);
    if (done < 0) {
        // Whether QEMU was asked is not known: never a refusal by QEMU itself.
        absl::Status status = libvirt_status(call.command);
        return absl::IsDeadlineExceeded(status) || absl::IsPermissionDenied(status)
                   ? status
                   : absl::UnavailableError(status.message());
    }
    const Json reply = parse_json(take_text(text));
    if (!reply.is_object())
        return absl::InternalError(
            fmt::format("{}: libvirt answered what is no QMP", call.command));
    if (const auto error = reply.find("error"); error != reply.end())
        return qmp_error(call.command, {.error_class = json_text(*error, "class"),
                                        .error_text = json_text(*error, "desc")});
    const auto value = reply.find("return");
    return value == reply.end() ? Json() : *value;
}

}  // namespace godwit
