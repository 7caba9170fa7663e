#include "engine/guest/libvirt/native_move.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Duration kLookAgain = std::chrono::milliseconds(500);
constexpr Bytes kMiB = Bytes{1} << 20;

// libvirt's list of named values.
class TypedParameters {
  public:
    TypedParameters() = default;
    ~TypedParameters() { ::virTypedParamsFree(list_, count_); }
    TypedParameters(const TypedParameters&) = delete;
    TypedParameters& operator=(const TypedParameters&) = delete;

    bool add(const char* name, const std::string& value) {
        return ::virTypedParamsAddString(&list_, &count_, &room_, name, value.c_str()) == 0;
    }
    bool add(const char* name, unsigned long long value) {
        return ::virTypedParamsAddULLong(&list_, &count_, &room_, name, value) == 0;
    }
    [[nodiscard]] unsigned long long number(const char* name) const {
        unsigned long long value = 0;
        ::virTypedParamsGetULLong(list_, count_, name, &value);
        return value;
    }
    // Of the domain's job; false: there is none, or nobody can tell.
    bool read_job(virDomain* domain, unsigned int flags) {
        int type = VIR_DOMAIN_JOB_NONE;
        return ::virDomainGetJobStats(domain, &type, &list_, &count_, flags) == 0 &&
               type != VIR_DOMAIN_JOB_NONE;
    }
    [[nodiscard]] virTypedParameterPtr list() const { return list_; }
    [[nodiscard]] unsigned int count() const { return static_cast<unsigned int>(count_); }

  private:
    virTypedParameterPtr list_ = nullptr;
    int count_ = 0;
    int room_ = 0;
};

std::optional<NativeProgress> read_progress(virDomain* domain, unsigned int flags) {
    TypedParameters job;
    if (!job.read_job(domain, flags)) return std::nullopt;
    return NativeProgress{
        .total_bytes = job.number(VIR_DOMAIN_JOB_MEMORY_TOTAL),
        .remaining_bytes = job.number(VIR_DOMAIN_JOB_MEMORY_REMAINING),
        .sent_bytes = job.number(VIR_DOMAIN_JOB_MEMORY_PROCESSED),
        .pass = static_cast<uint32_t>(job.number(VIR_DOMAIN_JOB_MEMORY_ITERATION)),
        .downtime_ms = static_cast<double>(job.number(VIR_DOMAIN_JOB_DOWNTIME))};
}

// The final figures: the source has none of a domain that was transient, the destination has.
NativeProgress final_progress(virDomain* watched, const NativeMove& move, NativeProgress last) {
    constexpr unsigned int kCompleted = VIR_DOMAIN_JOB_STATS_COMPLETED;
    if (const auto here = read_progress(watched, kCompleted)) return *here;
    last.downtime_ms = 0;  // expected ones are none
    const LibvirtConnection there(move.destination);
    const absl::StatusOr<ConnectHandle> connection = there.open_another();
    if (!connection.ok()) return last;
    const absl::StatusOr<DomainHandle> domain = domain_by_uuid(*connection, domain_uuid(watched));
    if (!domain.ok()) return last;
    return read_progress(domain->get(), kCompleted).value_or(last);
}

absl::Status run_migration(virDomain* domain, const NativeMove& move) {
    TypedParameters parameters;
    bool said = move.data.empty() || parameters.add(VIR_MIGRATE_PARAM_URI, move.data);
    if (move.bandwidth_bytes_per_s > 0)
        said = said && parameters.add(VIR_MIGRATE_PARAM_BANDWIDTH,
                                      std::max<uint64_t>(move.bandwidth_bytes_per_s / kMiB, 1));
    if (!said) return libvirt_status("Cannot say what libvirt is to do");
    unsigned int flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_AUTO_CONVERGE;
    if (move.with_definition) flags |= VIR_MIGRATE_PERSIST_DEST;
    if (move.undefine_source) flags |= VIR_MIGRATE_UNDEFINE_SOURCE;
    if (::virDomainMigrateToURI3(domain, move.destination.c_str(), parameters.list(),
                                 parameters.count(), flags) < 0)
        return libvirt_status(fmt::format("libvirt's own migration to {}", move.destination));
    return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NativeProgress> migrate_by_libvirt(
    virDomain* moving, virDomain* watched, const NativeMove& move,
    const std::function<bool(const NativeProgress&)>& go_on) {
    std::mutex mutex;
    std::condition_variable ended;
    std::optional<absl::Status> outcome;
    const std::jthread migration([&] {
        set_thread_name("native-move");
        absl::Status status = run_migration(moving, move);
        const std::lock_guard lock(mutex);
        outcome = std::move(status);
        ended.notify_all();
    });
    NativeProgress last;
    bool aborted = false;
    std::unique_lock lock(mutex);
    while (!ended.wait_for(lock, kLookAgain, [&] { return outcome.has_value(); })) {
        lock.unlock();
        if (const auto now = read_progress(watched, 0)) last = *now;
        // Again and again: an abort may come before there is a job to abort.
        if (!go_on(last)) aborted |= ::virDomainAbortJob(watched) == 0;
        lock.lock();
    }
    if (!outcome->ok()) return aborted ? absl::CancelledError(outcome->message()) : *outcome;
    lock.unlock();
    return final_progress(watched, move, last);
}

}  // namespace godwit
