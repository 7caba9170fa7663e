#include "engine/destination/incoming_postcopy.h"

#include <fmt/format.h>
#include <unistd.h>

#include "dirty-tracking/attach/attach.h"
#include "engine/postcopy/beside_missing.h"
#include "engine/postcopy/collapse_huge.h"

namespace godwit {

absl::StatusOr<std::unique_ptr<IncomingPostcopy>> IncomingPostcopy::attach(
    Vm& vm, std::string missing_path) {
    std::unique_ptr<IncomingPostcopy> postcopy(new IncomingPostcopy(vm, std::move(missing_path)));
    GODWIT_ASSIGN_OR_RETURN(const std::vector<pid_t> vcpus, vm.vcpu_threads());
    GODWIT_ASSIGN_OR_RETURN(Attachment attachment, attach_userfaultfd(vm.pid(), vcpus));
    GODWIT_ASSIGN_OR_RETURN(
        postcopy->memory_,
        FaultMemory::create(vm.pid(), vm.ram_blocks(), std::move(attachment.userfaultfd)));
    return postcopy;
}

absl::StatusOr<std::unique_ptr<IncomingPostcopy>> IncomingPostcopy::recover(
    Vm& vm, std::string missing_path) {
    std::unique_ptr<IncomingPostcopy> postcopy(new IncomingPostcopy(vm, std::move(missing_path)));
    GODWIT_ASSIGN_OR_RETURN(MissingPages missing,
                            MissingPages::open(postcopy->missing_path_, vm.ram_blocks()));
    postcopy->missing_.emplace(std::move(missing));
    // QEMU's monitor may wait for a page: its vCPUs are not asked for.
    GODWIT_ASSIGN_OR_RETURN(Attachment attachment, attach_userfaultfd(vm.pid(), {}));
    if (!attachment.adopted)
        return absl::DataLossError("QEMU has no userfaultfd of an earlier agent any more");
    GODWIT_ASSIGN_OR_RETURN(
        postcopy->memory_,
        FaultMemory::create(vm.pid(), vm.ram_blocks(), std::move(attachment.userfaultfd)));
    GODWIT_RETURN_IF_ERROR(postcopy->memory_->register_all());
    GODWIT_RETURN_IF_ERROR(postcopy->serve_faults(FaultMode::kServe));
    return postcopy;
}

IncomingPostcopy::~IncomingPostcopy() {
    if (server_) server_->stop().IgnoreError();
}

absl::Status IncomingPostcopy::serve_faults(FaultMode mode) {
    GODWIT_ASSIGN_OR_RETURN(server_, FaultServer::create(*memory_, *missing_));
    return server_->start(mode);
}

absl::Status IncomingPostcopy::arm() {
    GODWIT_ASSIGN_OR_RETURN(MissingPages missing,
                            MissingPages::create(missing_path_, vm_.ram_blocks()));
    missing_.emplace(std::move(missing));
    GODWIT_RETURN_IF_ERROR(serve_faults(FaultMode::kHold));
    return memory_->register_all();
}

absl::Status IncomingPostcopy::punch(const ChunkPages& stale) {
    const RamBlock& block = vm_.ram_blocks()[stale.block];
    missing_->set(stale.block, stale.chunk, whole_granules(block, stale.pages));
    PunchTotals totals;
    return punch_stale(block, stale.chunk, stale.pages, totals);
}

absl::Status IncomingPostcopy::put_late(const PagesBody& pages, std::span<const std::byte> raw) {
    const ChunkMask missing = missing_->chunk(pages.block, pages.chunk);
    for (size_t i = 0; i < missing.size(); ++i)
        if ((missing[i] & pages.present[i]) != 0)
            return absl::InvalidArgumentError(
                fmt::format("pages of chunk {} of RAM block {} that were to stay missing",
                            pages.chunk, pages.block));
    return put_beside_missing(*memory_, pages.block, pages.chunk, pages.present, pages.zero, raw);
}

absl::Status IncomingPostcopy::serve(Asker& asker) {
    server_->serve();
    // What QEMU touched while the source still ran was zeros then, and stays so unless it is stale.
    const PageSet zeroed = server_->take_zeroed();
    for (BlockIndex block = 0; block < zeroed.size(); ++block)
        for (PageIndex page = zeroed[block].next_set(0); page < zeroed[block].page_count();) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            ChunkPages stale{
                .block = block, .chunk = chunk, .pages = missing_->chunk(block, chunk)};
            const ChunkMask seen = chunk_mask(zeroed[block], chunk);
            for (size_t i = 0; i < seen.size(); ++i) stale.pages[i] &= seen[i];
            if (count_pages(stale.pages) > 0) GODWIT_RETURN_IF_ERROR(punch(stale));
            page = zeroed[block].next_set((chunk + 1) * kPagesPerChunk);
        }
    server_->connection_restored(asker);
    return absl::OkStatus();
}

absl::Status IncomingPostcopy::off() {
    GODWIT_RETURN_IF_ERROR(finish());
    server_.reset();
    missing_.reset();
    ::unlink(missing_path_.c_str());
    return absl::OkStatus();
}

absl::Status IncomingPostcopy::place(const PagesBody& pages, std::span<const std::byte> raw,
                                     PageOrigin origin) {
    return server_->place(pages.block, pages.chunk, pages.present, pages.zero, raw, origin);
}

absl::Status IncomingPostcopy::list_missing(
    const std::function<absl::Status(std::span<const ChunkPages>)>& send) const {
    std::vector<ChunkPages> list;
    absl::Status status;
    missing_->for_each_chunk([&](BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
        if (!status.ok()) return;
        list.push_back({.block = block, .chunk = chunk, .pages = pages});
        if (list.size() < kMaxMissingChunks) return;
        status = send(list);
        list.clear();
    });
    if (status.ok() && !list.empty()) status = send(list);
    return status;
}

absl::Status IncomingPostcopy::finish() {
    // Else nobody would answer a fault at a page that the guest has given back.
    GODWIT_RETURN_IF_ERROR(memory_->unregister_all());
    server_->connection_lost();
    server_->stop().IgnoreError();
    return absl::OkStatus();
}

Bytes IncomingPostcopy::collapse(const std::stop_token& stop) {
    Bytes bytes = 0;
    const std::span<const RamBlock> blocks = vm_.ram_blocks();
    for (BlockIndex block = 0; block < blocks.size(); ++block)
        bytes += collapse_huge(vm_.pid(), blocks[block], memory_->mappings(block), stop);
    return bytes;
}

v1::Postcopy IncomingPostcopy::report() const {
    v1::Postcopy report;
    if (!missing_ || !server_) return report;
    const FaultStats stats = server_->stats();
    const MonotonicTime now = Clock::system().now();
    report.set_used(true);
    report.set_faults(stats.waited_fault_count);
    const FaultPercentiles latency = stats.percentiles();
    const auto us = [](Duration duration) {
        return std::chrono::duration<double, std::micro>(duration).count();
    };
    report.mutable_latency_us()->set_p50(us(latency.p50));
    report.mutable_latency_us()->set_p90(us(latency.p90));
    report.mutable_latency_us()->set_p99(us(latency.p99));
    report.mutable_latency_us()->set_p999(us(latency.p99_9));
    report.mutable_latency_us()->set_max(us(latency.max));
    report.set_stall_ms(to_ms(stats.total_stall(now)));
    report.set_longest_stall_ms(to_ms(stats.longest_stall(now)));
    report.set_demand_pages(stats.demand_pages);
    report.set_prepaged_pages(stats.prepaging_pages);
    report.set_pushed_pages(stats.push_pages);
    report.set_duplicate_pages(stats.duplicate_pages);
    report.set_zeroed_pages(stats.local_zero_pages);
    report.set_destination_realtime(server_->realtime());
    return report;
}

}  // namespace godwit
