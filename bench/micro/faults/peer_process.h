// The source of the benchmark: a process that answers requests for pages over loopback TCP, and
// pushes the rest on a second connection.
#pragma once

#include <sys/types.h>

#include <memory>

#include "engine/base/ram_block.h"
#include "engine/postcopy/page_server.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// In front of the pages; what a kPages frame says, without its checksums.
struct PeerHead {
    uint64_t chunk = 0;
    uint32_t block = 0;
    uint32_t raw_bytes = 0;
    uint64_t origin = 0;
    ChunkMask present{};
    ChunkMask zero{};
};

struct PeerRequest {
    uint64_t block = 0;
    uint64_t page = 0;
};

struct PeerOptions {
    Bytes push_rate = 0;        // bytes a second; 0: nothing is pushed
    uint64_t push_pages = 512;  // in one frame
    uint32_t prepaging = 0;     // limit of pages
    bool realtime = true;       // of the thread that answers
};

// Killed and reaped by the destructor. Forks: to be started before threads.
class PeerProcess {
  public:
    static absl::StatusOr<std::unique_ptr<PeerProcess>> start(const RamBlock& source,
                                                              const PeerOptions& options);
    ~PeerProcess();
    PeerProcess(const PeerProcess&) = delete;
    PeerProcess& operator=(const PeerProcess&) = delete;

    // The two connections, no delay.
    [[nodiscard]] int urgent() const { return urgent_.get(); }
    [[nodiscard]] int push() const { return push_.get(); }
    // The push begins when a byte is written to its connection.

  private:
    PeerProcess(pid_t pid, UniqueFd urgent, UniqueFd push)
        : pid_(pid), urgent_(std::move(urgent)), push_(std::move(push)) {}
    pid_t pid_;
    UniqueFd urgent_;
    UniqueFd push_;
};

// Reads heads and their pages from a connection; few system calls for small ones.
class PeerReader {
  public:
    explicit PeerReader(int fd);
    // False at the end of the stream. The bytes are valid until the next call.
    bool next(PeerHead& head, std::span<const std::byte>& raw);

  private:
    bool want(size_t bytes);
    int fd_;
    std::vector<std::byte> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
};

}  // namespace godwit
