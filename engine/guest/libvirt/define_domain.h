// Giving a definition to a domain that runs.
#pragma once

#include <string>

#include "engine/base/status.h"
#include "engine/guest/libvirt/connection.h"

namespace godwit {

// Where the libvirt of that URI keeps definitions; empty: not known.
std::string definition_directory(const LibvirtConnection& libvirt);

// libvirt 9 forgets a transient domain, which runs on, when it is to define it and can't write
// that down. So whether `directory` takes a file of that content is tried first: it is written
// without a name, and above where there is no such directory yet. Errors: the system calls'. Ok too
// where nothing can be said of the directory.
absl::Status try_to_write(const std::string& directory, const std::string& content);

// Takes as long as libvirtd does. `id`: of the domain's present run. Errors: FailedPrecondition
// when libvirt refuses, when the definition can't be written, and when libvirt does not know the
// domain: then it says so, for the guest runs all the same. Unavailable: libvirtd was away, and
// nobody knows.
absl::Status define_running_domain(LibvirtConnection& libvirt, const std::string& uuid, int id,
                                   const std::string& definition);

}  // namespace godwit
