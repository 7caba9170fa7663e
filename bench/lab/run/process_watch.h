// ProcessWatch: what each process of a migration uses while it lasts, and what the host lacks
// meanwhile: looked at by a thread, the same for every engine.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "bench/lab/cpu_time.h"
#include "bench/lab/statistics.h"
#include "engine/base/status.h"
#include "engine/base/units.h"
#include "engine/base/wait.h"

namespace godwit {

// Looks every 50 ms at all that this process has started, and at /proc/meminfo. Thread rule: start
// and stop from one thread.
class ProcessWatch {
  public:
    // Errors: eventfd's.
    static absl::StatusOr<std::unique_ptr<ProcessWatch>> start();
    ~ProcessWatch();

    // Ends the thread. Metrics since start():
    //   cpu_s.ROLE             of the processes of that role (role_of), without what vCPUs ran; of
    //                          one that ended, up to the last look
    //   peak_anon_bytes.ROLE   the most private memory
    //   peak_memory_bytes      how much more of the host's memory was in use at the worst moment
    //                          (private, shared, page tables, huge pages), whoever used it; without
    //                          this process's own
    Metrics stop();

  private:
    explicit ProcessWatch(Wakeup stopping) : stopping_(std::move(stopping)) {}
    struct Seen {
        std::string role;
        double first_s = 0, last_s = 0;
        Bytes peak_anon = 0;
    };
    void run();
    void look(bool first);

    const Wakeup stopping_;
    std::map<pid_t, Seen> seen_;  // the thread's until it has ended
    Bytes used_before_ = 0;
    Bytes most_used_ = 0;
    std::jthread thread_;
};

// "source-agent", "destination-agent", "source-qemu", "destination-qemu", "guard", "command", or
// the program's own name. `arguments` are joined by newlines; `there_before` tells the guest's QEMU
// from the one that is started to receive it.
std::string role_of(const std::string& arguments, bool there_before);

// A value in kB of a file like /proc/meminfo or /proc/PID/status, in bytes; 0 where there is none.
Bytes parse_kib_field(const std::string& text, const std::string& name);

}  // namespace godwit
