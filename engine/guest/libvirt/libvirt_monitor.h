// LibvirtMonitor: QMP through libvirt, which has QEMU's only monitor.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/thread_annotations.h"
#include "engine/guest/libvirt/connection.h"
#include "engine/guest/qemu/qmp_session.h"

namespace godwit {

// libvirt's calls have no deadline of their own (a domain that is busy is waited for, 30 s long),
// so they are made by threads of ours named "libvirt-call"; one that came too late ends unheard.
// Destroying the session waits 2 s for calls that are under way, and then leaves them behind. It
// tells of its end (kLost) when the connection breaks.
class LibvirtMonitor final : public QmpSession {
  public:
    // Calls that may be under way at once: as QmpClient's, but each takes a thread.
    static constexpr size_t kMaxCalls = 16;

    // Errors: NotFound when the domain does not run, or was started anew since (`domain_id`, which
    // libvirt gives at each start); as libvirt_status().
    static absl::StatusOr<std::unique_ptr<QmpSession>> open(const ConnectHandle& connection,
                                                            const std::string& uuid, int domain_id,
                                                            OnEvent on_event);
    ~LibvirtMonitor() override;

    absl::StatusOr<Json> execute(std::string_view command, Json arguments, Duration limit,
                                 int fd_to_pass) override;
    [[nodiscard]] absl::Status state() const override;
    [[nodiscard]] bool wait_closed(Duration limit) const override;

  private:
    struct Call;
    struct Work;
    // What libvirt's callbacks hold on to: it outlives the session.
    struct Sink;

    LibvirtMonitor(ConnectHandle connection, DomainHandle domain, std::shared_ptr<Sink> sink);
    absl::Status register_events();

    const ConnectHandle connection_;
    const std::shared_ptr<virDomain> domain_;
    const std::shared_ptr<Sink> sink_;
    int monitor_events_ = -1;
    int lifecycle_events_ = -1;
    bool hears_of_close_ = false;

    const std::shared_ptr<Work> work_;
    std::mutex workers_mutex_;
    std::vector<std::jthread> workers_ GODWIT_GUARDED_BY(workers_mutex_);
};

}  // namespace godwit
