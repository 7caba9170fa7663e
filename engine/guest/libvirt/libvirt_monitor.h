// LibvirtMonitor: QMP through libvirt, which has QEMU's only monitor.
#pragma once

#include <memory>
#include <string>

#include "engine/base/thread_annotations.h"
#include "engine/guest/libvirt/connection.h"
#include "engine/guest/qemu/qmp_session.h"

namespace godwit {

// libvirt's calls have no deadline of their own (a domain that is busy is waited for, 30 s long),
// so they are made by threads of ours named "libvirt-call"; one that came too late ends unheard.
// Destroying the session takes 2 s at most: what hangs then is left behind. It tells of its end
// (kLost) when the connection breaks.
class LibvirtMonitor final : public QmpSession {
  public:
    // Calls that may be under way at once: as QmpClient's, but each takes a thread.
    static constexpr size_t kMaxCalls = 16;

    // By a connection of its own. Errors: NotFound when the domain does not run, or was started
    // anew since (`domain_id`, which libvirt gives at each start); DeadlineExceeded; as
    // libvirt_status().
    static absl::StatusOr<std::unique_ptr<QmpSession>> open(
        std::shared_ptr<LibvirtConnection> libvirt, const std::string& uuid, int domain_id,
        MonotonicTime deadline, OnEvent on_event);
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

    // The handles, what libvirt calls, and the threads that call libvirt.
    struct Parts;

    explicit LibvirtMonitor(std::shared_ptr<Sink> sink);
    static absl::StatusOr<std::unique_ptr<QmpSession>> open_now(const LibvirtConnection& libvirt,
                                                                const std::string& uuid,
                                                                int domain_id,
                                                                const std::shared_ptr<Sink>& sink);
    absl::Status register_events();

    const std::shared_ptr<Sink> sink_;
    const std::shared_ptr<Work> work_;
    std::shared_ptr<Parts> parts_;  // given away at the end
};

}  // namespace godwit
