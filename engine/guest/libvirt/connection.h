// Connections to libvirt: handles that close themselves, errors as statuses, the event loop.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/thread_annotations.h"
#include "engine/guest/libvirt/libvirt_calls.h"

namespace godwit {

struct DomainDeleter {
    void operator()(virDomain* domain) const { virDomainFree(domain); }
};
using DomainHandle = std::unique_ptr<virDomain, DomainDeleter>;
using ConnectHandle = std::shared_ptr<virConnect>;

// What libvirt said last on this thread, with "<what>: " in front. NotFound: no such domain;
// AlreadyExists: name or UUID taken; PermissionDenied; DeadlineExceeded: the domain is busy;
// Unavailable: libvirt can't be reached; everything else FailedPrecondition.
absl::Status libvirt_status(std::string_view what);

// A string that libvirt allocated; frees it.
std::string take_text(char* text);

// Thread-safe. One URI; the connection is opened anew when it was lost (libvirtd was restarted). A
// thread named "libvirt-events" delivers events, one for all connections of the process.
//
// What is called on a connection takes as long as libvirtd does, closing it too: late_calls.h.
class LibvirtConnection {
  public:
    explicit LibvirtConnection(std::string uri) : uri_(std::move(uri)) {}
    ~LibvirtConnection();
    LibvirtConnection(const LibvirtConnection&) = delete;
    LibvirtConnection& operator=(const LibvirtConnection&) = delete;

    // Takes 10 s at most. Errors: Unavailable, PermissionDenied, and libvirt's own for a bad URI.
    absl::StatusOr<ConnectHandle> get();
    // A connection of its own: libvirtd serves few calls at once on each, and one domain that hangs
    // must not hold up the others. Errors: as get().
    [[nodiscard]] absl::StatusOr<ConnectHandle> open_another() const;
    [[nodiscard]] const std::string& uri() const { return uri_; }
    // The driver runs within this process (qemu:///embed): no second process can open the same
    // root.
    [[nodiscard]] bool is_embedded() const;
    // The root of an embedded driver, or empty.
    [[nodiscard]] std::string embedded_root() const;

  private:
    const std::string uri_;
    std::mutex mutex_;
    std::condition_variable opened_;
    // One caller opens it for all that wait.
    bool is_opening_ GODWIT_GUARDED_BY(mutex_) = false;
    ConnectHandle connection_ GODWIT_GUARDED_BY(mutex_);
    absl::Status last_failure_ GODWIT_GUARDED_BY(mutex_);
};

// Errors: NotFound, and as libvirt_status().
absl::StatusOr<DomainHandle> domain_by_uuid(const ConnectHandle& connection,
                                            const std::string& uuid);
// By name, or by UUID where no domain has that name.
absl::StatusOr<DomainHandle> find_domain(const ConnectHandle& connection, const std::string& name);
std::string domain_uuid(virDomain* domain);

// Removes the definition of a domain that has ended, once libvirt has seen that; of one that was
// transient there is none. Errors: FailedPrecondition when it runs, or has snapshots, which would
// be lost. Takes kAnswerLimit at most.
absl::Status undefine_domain(const std::shared_ptr<LibvirtConnection>& libvirt,
                             const std::string& uuid);

// Whether libvirt starts the domain when its host boots (autostart).
absl::StatusOr<bool> starts_with_host(virDomain* domain);

// Of a domain that has gone to another host: whether its definition, if there is one, is one that
// libvirt starts with this host, in a sentence; that it could not be asked, where it does not
// answer within 2 s.
std::vector<std::string> definition_left_behind(const std::shared_ptr<LibvirtConnection>& libvirt,
                                                const std::string& uuid);

}  // namespace godwit
