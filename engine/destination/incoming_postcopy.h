// IncomingPostcopy: the memory of an incoming guest that resumes before its last pages are there.
//
//   attached ─► armed ─► [punched] ─► serving ─► complete ─► over
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/guest/hypervisor.h"
#include "engine/postcopy/fault_memory.h"
#include "engine/postcopy/fault_server.h"
#include "engine/postcopy/missing_pages.h"
#include "engine/postcopy/punch_stale.h"
#include "godwit/v1/report.pb.h"
#include "transport/frame/bodies.h"

namespace godwit {

class IncomingPostcopy {
  public:
    // Has QEMU make a userfaultfd; nothing is registered yet. The VM must outlive it. Errors:
    // attach_userfaultfd's, FaultMemory::create's.
    static absl::StatusOr<std::unique_ptr<IncomingPostcopy>> attach(Vm& vm,
                                                                    std::string missing_path);
    // In a restarted agent: takes what the earlier one left, and serves. Errors: also DataLoss
    // when it left nothing.
    static absl::StatusOr<std::unique_ptr<IncomingPostcopy>> recover(Vm& vm,
                                                                     std::string missing_path);
    ~IncomingPostcopy();

    // Registers all memory, and answers faults with zeros until serve(). Errors: no room for the
    // file of missing pages, FaultMemory::register_all's.
    absl::Status arm();
    // These pages are stale, or never came. By any thread, different chunks at once. Errors:
    // punch_stale's: then the migration must not be committed.
    absl::Status punch(const ChunkPages& stale);
    // Whether other pages of the chunk are missing, so that pages must come by put_late().
    [[nodiscard]] bool misses_some_of(BlockIndex block, ChunkIndex chunk) const {
        return missing_ && missing_->chunk(block, chunk) != ChunkMask{};
    }
    // Pages that are not missing, before serve(). By any thread, different chunks at once. Errors:
    // InvalidArgument for a page that is missing; put_beside_missing's. No deltas.
    absl::Status put_late(const PagesBody& pages, std::span<const std::byte> raw);
    // All stale pages are known, and faults may be asked for.
    absl::Status serve(Asker& asker);
    // All pages are there after all: nothing is registered any more.
    absl::Status off();

    absl::Status place(const PagesBody& pages, std::span<const std::byte> raw, PageOrigin origin);
    [[nodiscard]] uint64_t missing_count() const { return missing_->count(); }
    [[nodiscard]] bool complete() const { return missing_count() == 0; }
    // The file of missing pages, in frames of at most kMaxMissingChunks.
    absl::Status list_missing(
        const std::function<absl::Status(std::span<const ChunkPages>)>& send) const;

    void connection_lost() { server_->connection_lost(); }
    void connection_restored(Asker& asker) { server_->connection_restored(asker); }

    // Since when the oldest fault has waited for its page.
    [[nodiscard]] std::optional<MonotonicTime> waits_since() const {
        return server_->oldest_open();
    }

    // FaultMemory's, and what the thread that serves faults has met.
    [[nodiscard]] absl::Status check_mappings() const { return memory_->check_mappings(); }
    [[nodiscard]] absl::Status failure() const { return server_->failure(); }

    // After the last page: faults are the kernel's again. Errors: FaultMemory::unregister_all's;
    // they are served still.
    absl::Status finish();
    // Puts small pages together to huge ones; returns how many bytes. After finish().
    Bytes collapse(const std::stop_token& stop);
    // How it went so far.
    [[nodiscard]] v1::Postcopy report() const;

  private:
    IncomingPostcopy(Vm& vm, std::string missing_path)
        : vm_(vm), missing_path_(std::move(missing_path)) {}
    absl::Status serve_faults(FaultMode mode);

    Vm& vm_;
    const std::string missing_path_;
    std::unique_ptr<FaultMemory> memory_;
    std::optional<MissingPages> missing_;
    std::unique_ptr<FaultServer> server_;
};

}  // namespace godwit
