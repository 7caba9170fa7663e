// RAM of an incoming guest on a mount of its own, the process that maps it, and what it misses.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/base/ram_block.h"
#include "engine/postcopy/fault_memory.h"
#include "engine/postcopy/fault_server.h"
#include "engine/postcopy/missing_pages.h"
#include "tests/unit/dirty-tracking/process/child_program.h"
#include "tests/unit/dirty-tracking/process/private_mount.h"

namespace godwit {

ChunkMask all_pages();
ChunkMask one_page(PageIndex page);
ChunkMask some_pages(std::initializer_list<PageIndex> pages);

// Remembers what was asked for; whoever waits is told.
class RecordingAsker : public Asker {
  public:
    struct Request {
        BlockIndex block = 0;
        PageIndex page = 0;
        bool operator==(const Request&) const = default;
    };
    absl::Status ask(BlockIndex block, PageIndex page) override;
    // The first `count` requests, when there are as many; after 20 s those that there are.
    std::vector<Request> wait_for(size_t count);
    std::vector<Request> requests();
    void break_connection();

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Request> requests_;
    bool broken_ = false;
};

class FaultRam {
  public:
    // One block of `size` bytes on a mount of this type; the guest maps it `views` times.
    static absl::StatusOr<std::unique_ptr<FaultRam>> create(const std::string& type,
                                                            const std::string& options, Bytes size,
                                                            int views);
    // As an agent does, or its successor: the same userfaultfd again, and a FaultMemory over it.
    absl::Status attach();
    absl::StatusOr<MissingPages> make_missing() const;
    absl::StatusOr<MissingPages> open_missing() const;
    [[nodiscard]] std::string missing_path() const { return mount.path() + "/missing"; }

    // The content of a seed in the file, or in a buffer for place().
    void write_content(uint64_t seed) const;
    // Every seventh page as zeros: `zero` says which; the bytes of the others.
    std::vector<std::byte> content(uint64_t seed, ChunkIndex chunk, const ChunkMask& pages,
                                   ChunkMask& zero) const;
    absl::Status place(FaultServer& server, uint64_t seed, ChunkIndex chunk, const ChunkMask& pages,
                       PageOrigin origin) const;
    // Sets the bits and punches, as it is done before a guest comes.
    absl::Status make_stale(MissingPages& missing, ChunkIndex chunk, const ChunkMask& pages) const;
    // Whether the file has a page.
    [[nodiscard]] bool is_present(PageIndex page) const;
    // Waits until the userfaultfd has an event, and reads one.
    absl::StatusOr<Fault> next_fault() const;
    std::string ask_guest(const std::string& line) const { return guest->ask(line); }

    PrivateMount mount;
    std::vector<RamBlock> blocks;
    std::unique_ptr<ChildProgram> guest;
    std::unique_ptr<FaultMemory> memory;

  private:
    explicit FaultRam(PrivateMount m) : mount(std::move(m)) {}
};

// Why faults can't be served here; "" when they can.
std::string why_no_faults();

}  // namespace godwit
