#include "engine/guest/libvirt/libvirt_monitor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libvirt/libvirt-qemu.h>

#include <algorithm>
#include <optional>

#include "engine/base/unique_fd.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

std::chrono::microseconds wall_now() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::system_clock::now().time_since_epoch());
}

}  // namespace

struct LibvirtMonitor::Call {
    std::string command;
    std::string line;
    UniqueFd fd;
    std::optional<absl::StatusOr<Json>> answer;  // guarded by mutex_
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
};

absl::StatusOr<std::unique_ptr<QmpSession>> LibvirtMonitor::open(const ConnectHandle& connection,
                                                                 const std::string& uuid,
                                                                 int domain_id, OnEvent on_event) {
    GODWIT_ASSIGN_OR_RETURN(DomainHandle domain, domain_by_uuid(connection, uuid));
    if (static_cast<int>(::virDomainGetID(domain.get())) != domain_id)
        return absl::NotFoundError(fmt::format("domain {} has ended, or was started anew",
                                               ::virDomainGetName(domain.get())));
    auto sink = std::make_shared<Sink>();
    {
        const std::lock_guard lock(sink->mutex);
        sink->on_event = std::move(on_event);
    }
    std::unique_ptr<LibvirtMonitor> monitor(
        new LibvirtMonitor(connection, std::move(domain), std::move(sink)));
    GODWIT_RETURN_IF_ERROR(monitor->register_events());
    return monitor;
}

LibvirtMonitor::LibvirtMonitor(ConnectHandle connection, DomainHandle domain,
                               std::shared_ptr<Sink> sink)
    : connection_(std::move(connection)), domain_(std::move(domain)), sink_(std::move(sink)) {}

absl::Status LibvirtMonitor::register_events() {
    // NOLINTBEGIN(cppcoreguidelines-owning-memory): libvirt calls Sink::forget
    auto* for_monitor = new Sink::Reference(sink_);
    monitor_events_ = ::virConnectDomainQemuMonitorEventRegister(connection_.get(), domain_.get(),
                                                                 nullptr, &Sink::on_monitor_event,
                                                                 for_monitor, &Sink::forget, 0);
    if (monitor_events_ < 0) {
        Sink::forget(for_monitor);
        return libvirt_status("Cannot hear of QEMU's events");
    }
    auto* for_lifecycle = new Sink::Reference(sink_);
    lifecycle_events_ = ::virConnectDomainEventRegisterAny(
        connection_.get(), domain_.get(), VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        VIR_DOMAIN_EVENT_CALLBACK(&Sink::on_lifecycle), for_lifecycle, &Sink::forget);
    if (lifecycle_events_ < 0) {
        Sink::forget(for_lifecycle);
        return libvirt_status("Cannot hear of the domain's events");
    }
    // NOLINTEND(cppcoreguidelines-owning-memory)
    return absl::OkStatus();
}

LibvirtMonitor::~LibvirtMonitor() {
    {
        const std::lock_guard lock(sink_->mutex);
        sink_->on_event = nullptr;
    }
    if (monitor_events_ >= 0)
        ::virConnectDomainQemuMonitorEventDeregister(connection_.get(), monitor_events_);
    if (lifecycle_events_ >= 0)
        ::virConnectDomainEventDeregisterAny(connection_.get(), lifecycle_events_);
    std::vector<std::jthread> workers;
    {
        const std::lock_guard lock(mutex_);
        workers.swap(workers_);
    }
    for (std::jthread& worker : workers) worker.request_stop();
    workers.clear();
}

absl::Status LibvirtMonitor::state() const {
    if (::virConnectIsAlive(connection_.get()) != 1)
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
    std::unique_lock lock(mutex_);
    if (idle_ <= queue_.size()) {
        if (workers_.size() >= kMaxCalls)
            return absl::ResourceExhaustedError(
                fmt::format("{}: {} calls of libvirt wait already", command, kMaxCalls));
        workers_.emplace_back([this](const std::stop_token& stop) { work(stop); });
    }
    queue_.push_back(call);
    called_.notify_one();
    if (answered_.wait_until(lock, deadline, [&] { return call->answer.has_value(); }))
        return *std::move(call->answer);
    std::erase(queue_, call);
    return absl::DeadlineExceededError(
        fmt::format("{}: no answer from libvirt within {:.1f} ms", command,
                    std::chrono::duration<double, std::milli>(limit).count()));
}

void LibvirtMonitor::work(const std::stop_token& stop) {
    set_thread_name("libvirt-call");
    std::unique_lock lock(mutex_);
    while (true) {
        ++idle_;
        const bool called = called_.wait(lock, stop, [this] { return !queue_.empty(); });
        --idle_;
        if (!called || stop.stop_requested()) return;
        const std::shared_ptr<Call> call = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        absl::StatusOr<Json> answer = carry_out(*call);
        lock.lock();
        call->answer = std::move(answer);
        answered_.notify_all();
    }
}

absl::StatusOr<Json> LibvirtMonitor::carry_out(const Call& call) {
    char* text = nullptr;
    int fd = call.fd.get();
    const int done =
        fd >= 0 ? ::virDomainQemuMonitorCommandWithFiles(domain_.get(), call.line.c_str(), 1, &fd,
                                                         nullptr, nullptr, &text, 0)
                : ::virDomainQemuMonitorCommand(domain_.get(), call.line.c_str(), &text, 0);
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
