// Connections to libvirt: handles that close themselves, errors as statuses, the event loop.
#pragma once

#include <libvirt/libvirt.h>

#include <memory>
#include <mutex>
#include <string>

#include "engine/base/status.h"
#include "engine/base/thread_annotations.h"

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
class LibvirtConnection {
  public:
    explicit LibvirtConnection(std::string uri) : uri_(std::move(uri)) {}

    // Errors: Unavailable, PermissionDenied, and libvirt's own for a bad URI.
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
    ConnectHandle connection_ GODWIT_GUARDED_BY(mutex_);
};

// Errors: NotFound, and as libvirt_status().
absl::StatusOr<DomainHandle> domain_by_uuid(const ConnectHandle& connection,
                                            const std::string& uuid);
// By name, or by UUID where no domain has that name.
absl::StatusOr<DomainHandle> find_domain(const ConnectHandle& connection, const std::string& name);
std::string domain_uuid(virDomain* domain);

}  // namespace godwit
