// A process that maps RAM and touches the pages that it is told: one vCPU, as far as faults go.
#pragma once

#include <sys/types.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/mapping.h"
#include "engine/base/ram_block.h"

namespace godwit {

// A tmpfs over /tmp in a mount namespace of this process: gone with it, however it ends.
absl::Status enter_bench_mount(Bytes size, bool huge);
// A file of `size` bytes on it, empty.
absl::StatusOr<RamBlock> make_bench_block(const std::string& name, Bytes size, bool huge);

// Killed and reaped by the destructor; dies with this process. Forks: to be started before threads.
class GuestProcess {
  public:
    static absl::StatusOr<std::unique_ptr<GuestProcess>> start(const RamBlock& block, int views);
    ~GuestProcess();
    GuestProcess(const GuestProcess&) = delete;
    GuestProcess& operator=(const GuestProcess&) = delete;

    [[nodiscard]] pid_t pid() const { return pid_; }
    // Reads a word of each page through one of its views, one after another, with a pause of
    // `think` between two; does not wait for it.
    void touch(std::span<const PageIndex> pages, int view, Duration think) const;
    // Waits until it is through. How long each touch took, in the order of the pages.
    std::span<const uint64_t> touched_ns() const;

  private:
    struct Order;
    GuestProcess(pid_t pid, Mapping shared, int to, int from)
        : pid_(pid), shared_(std::move(shared)), to_(to), from_(from) {}
    [[noreturn]] static void serve(const std::string& path, Bytes size, int views,
                                   std::byte* shared, int in, int out);

    pid_t pid_;
    Mapping shared_;  // the pages, and then their times
    UniqueFd to_;
    UniqueFd from_;
};

// The value below which `part` of them lie. Sorts them.
uint64_t percentile(std::vector<uint64_t>& values, double part);

}  // namespace godwit
