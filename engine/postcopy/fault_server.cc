#include "engine/postcopy/fault_server.h"

#include <fmt/format.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <mutex>

#include "engine/postcopy/realtime.h"

namespace godwit {
namespace {

// A fault that could not be answered (no memory on the host) is tried again so often.
constexpr int kRetryMs = 100;
// Woken faults of a dead agent come again within this; a later one begins another stall.
constexpr Duration kComeAgain = std::chrono::milliseconds(100);

ChunkMask page_mask(PageIndex page, uint64_t granule) {
    ChunkMask mask{};
    if (granule > 1) {
        mask.fill(~uint64_t{0});
    } else {
        mask[page % kPagesPerChunk / 64] = uint64_t{1} << (page % 64);
    }
    return mask;
}

}  // namespace

FaultServer::FaultServer(FaultMemory& memory, MissingPages& missing, const Clock& clock,
                         Wakeup wakeup)
    : memory_(memory),
      missing_(missing),
      clock_(clock),
      wakeup_(std::move(wakeup)),
      meter_(missing.meter()),
      claimed_(memory.blocks()),
      open_(memory.blocks()),
      zeroed_(memory.blocks()),
      carries_stall_(missing.stats().stall_began_ns != 0) {}

FaultServer::~FaultServer() { (void)stop(); }

absl::StatusOr<std::unique_ptr<FaultServer>> FaultServer::create(FaultMemory& memory,
                                                                 MissingPages& missing,
                                                                 const Clock& clock) {
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    std::unique_ptr<FaultServer> server(new FaultServer(memory, missing, clock, std::move(wakeup)));
    for (BlockIndex block = 0; block < memory.blocks().size(); ++block) {
        if (memory.granule_pages(block) == 1 || server->huge_scratch_.size() > 0) continue;
        GODWIT_ASSIGN_OR_RETURN(server->huge_scratch_, Mapping::anonymous(kChunkBytes));
    }
    return server;
}

absl::Status FaultServer::start(FaultMode mode) {
    if (started_.exchange(true))
        return absl::FailedPreconditionError("the fault server was started before");
    if (mode == FaultMode::kServe) serve();
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    runs_.acquire();
    return absl::OkStatus();
}

absl::Status FaultServer::stop() {
    if (thread_.joinable()) {
        thread_.request_stop();
        wakeup_.notify();
        thread_.join();
        const std::lock_guard lock(table_mutex_);
        if (carries_stall_ && table_.size() == 0) meter_.stall_ends(woken_at_);
        carries_stall_ = false;
    }
    return failure();
}

void FaultServer::serve() {
    const std::lock_guard gate(gate_);
    serving_ = true;
}

PageSet FaultServer::take_zeroed() {
    PageSet taken;
    for (BlockIndex block = 0; block < memory_.blocks().size(); ++block) {
        PageBitmap& pages = taken.emplace_back(memory_.blocks()[block].page_count());
        const size_t words = pages.words().size();
        for (size_t word = 0; word < words; ++word)
            if (const uint64_t bits = zeroed_[block].clear(word, ~uint64_t{0}); bits != 0)
                pages.add_word(word, bits);
    }
    return taken;
}

void FaultServer::connection_lost() {
    const std::lock_guard gate(gate_);
    asker_ = nullptr;
}

void FaultServer::connection_restored(Asker& asker) {
    {
        const std::lock_guard gate(gate_);
        asker_ = &asker;
        const std::lock_guard lock(table_mutex_);
        table_.forget_asked();
        woken_at_ = clock_.now();
    }
    memory_.wake_all();
}

std::optional<MonotonicTime> FaultServer::oldest_open() const {
    const std::lock_guard lock(table_mutex_);
    return table_.oldest();
}

absl::Status FaultServer::failure() const {
    const std::lock_guard lock(table_mutex_);
    return failure_;
}

void FaultServer::fail(const absl::Status& status) {
    const std::lock_guard lock(table_mutex_);
    failure_.Update(status);
}

void FaultServer::run(const std::stop_token& stop) {
    set_thread_name("faults");
    realtime_ = run_realtime();
    runs_.release();
    std::array<pollfd, 2> fds{{{memory_.fd(), POLLIN, 0}, {wakeup_.fd(), POLLIN, 0}}};
    while (!stop.stop_requested()) {
        const int ready = ::poll(fds.data(), fds.size(), retry_ ? kRetryMs : -1);
        if (ready < 0 && errno != EINTR) return fail(errno_status(errno, "poll"));
        if (ready == 0) {
            retry_ = false;
            memory_.wake_all();
        }
        if (ready <= 0) continue;
        if (fds[1].revents != 0) {
            wakeup_.drain();
            if (left_waiting_.exchange(false)) memory_.wake_all();
        }
        if ((fds[0].revents & (POLLERR | POLLNVAL)) != 0)
            return fail(
                absl::InternalError("Cannot serve page faults: the userfaultfd is of no "
                                    "use: it must be non-blocking"));
        if (fds[0].revents != 0) {
            // Nothing but the events can be at fault: to go on would be to go round in circles.
            if (const absl::Status status = answer_events(); !status.ok()) return fail(status);
        }
    }
}

absl::Status FaultServer::answer_events() {
    std::array<Fault, FaultMemory::kReadLimit> faults;
    const std::lock_guard gate(gate_);
    GODWIT_ASSIGN_OR_RETURN(const size_t count, memory_.read(faults));
    const MonotonicTime now = clock_.now();
    for (size_t i = 0; i < count; ++i) answer(faults[i], now);
    return absl::OkStatus();
}

void FaultServer::answer(const Fault& fault, MonotonicTime now) {
    meter_.add(&FaultStats::fault_count);
    last_view_ = fault.view;
    if (serving_ && is_missing(fault)) {
        wait_for(fault, now);
        return;
    }
    answer_with_zeros(fault, !serving_);
}

bool FaultServer::is_missing(const Fault& fault) const {
    if (memory_.granule_pages(fault.block) == 1) return missing_.test(fault.block, fault.page);
    return missing_.chunk(fault.block, fault.page / kPagesPerChunk) != ChunkMask{};
}

void FaultServer::answer_with_zeros(const Fault& fault, bool remember) {
    const uint64_t granule = memory_.granule_pages(fault.block);
    FillTotals totals;
    const absl::Status status =
        memory_.fill_zero(fault.block, {fault.page, fault.page + granule}, fault.view, totals);
    if (!status.ok()) {
        meter_.add(&FaultStats::failed_fill_count);
        if (absl::IsNotFound(status)) return fail(status);
        retry_ = true;
        return;
    }
    meter_.add(&FaultStats::already_there, totals.existing_pages / granule);
    if (totals.filled_pages == 0) return;
    meter_.add(&FaultStats::local_zero_pages, totals.filled_pages);
    if (!remember) return;
    const ChunkMask mask = page_mask(fault.page, granule);
    const size_t first_word = fault.page / kPagesPerChunk * mask.size();
    for (size_t i = 0; i < mask.size(); ++i) zeroed_[fault.block].set(first_word + i, mask[i]);
}

void FaultServer::wait_for(const Fault& fault, MonotonicTime now) {
    const bool ask = remember(fault, now);
    // Its page may have come before anybody could see in open_ that it is waited for.
    if (!is_missing(fault)) {
        close_faults(fault.block, fault.page / 64, uint64_t{1} << (fault.page % 64));
        answer_with_zeros(fault, false);
        return;
    }
    if (!ask) return;
    meter_.add(&FaultStats::asked_pages);
    // The connection is lost, or will be found to be: all is asked anew then.
    if (!asker_->ask(fault.block, fault.page).ok()) asker_ = nullptr;
}

bool FaultServer::remember(const Fault& fault, MonotonicTime now) {
    const std::lock_guard lock(table_mutex_);
    OpenFault* entry = table_.find(fault.block, fault.page);
    if (entry == nullptr) {
        entry = table_.insert(
            {.block = fault.block, .view = fault.view, .page = fault.page, .first_seen = now});
        if (entry == nullptr) {
            left_waiting_ = true;  // woken when there is room
            return false;
        }
        open_[fault.block].set(fault.page / 64, uint64_t{1} << (fault.page % 64));
        open_count_ = table_.size();
        if (carries_stall_ && now > woken_at_ + kComeAgain) meter_.stall_ends(woken_at_);
        carries_stall_ = false;
        meter_.stall_begins(now);
    }
    if (asker_ == nullptr || entry->asked) return false;
    entry->asked = true;
    return true;
}

}  // namespace godwit
