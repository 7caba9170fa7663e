#include "engine/guest/libvirt/native_move.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "engine/guest/libvirt/late_calls.h"

namespace godwit {
namespace {

constexpr Duration kLookAgain = std::chrono::milliseconds(500);
constexpr Duration kLookLimit = std::chrono::seconds(10);
constexpr Bytes kMiB = Bytes{1} << 20;

// libvirt's list of named values.
class TypedParameters {
  public:
    TypedParameters() = default;
    ~TypedParameters() { virTypedParamsFree(list_, count_); }
    TypedParameters(const TypedParameters&) = delete;
    TypedParameters& operator=(const TypedParameters&) = delete;

    bool add(const char* name, const std::string& value) {
        return virTypedParamsAddString(&list_, &count_, &room_, name, value.c_str()) == 0;
    }
    bool add(const char* name, unsigned long long value) {
        return virTypedParamsAddULLong(&list_, &count_, &room_, name, value) == 0;
    }
    [[nodiscard]] unsigned long long number(const char* name) const {
        unsigned long long value = 0;
        virTypedParamsGetULLong(list_, count_, name, &value);
        return value;
    }
    // Of the domain's job; false: there is none, or nobody can tell.
    bool read_job(virDomain* domain, unsigned int flags) {
        int type = VIR_DOMAIN_JOB_NONE;
        return virDomainGetJobStats(domain, &type, &list_, &count_, flags) == 0 &&
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
    if (move.unsafe) flags |= VIR_MIGRATE_UNSAFE;
    if (virDomainMigrateToURI3(domain, move.destination.c_str(), parameters.list(),
                               parameters.count(), flags) < 0)
        return libvirt_status(fmt::format("libvirt's own migration to {}", move.destination));
    return absl::OkStatus();
}

using Progress = std::optional<NativeProgress>;

// What libvirt says of its job; nothing: there is none, or nobody can tell now.
Progress progress_at(const std::shared_ptr<LibvirtConnection>& libvirt, const std::string& uuid,
                     unsigned int flags) {
    const auto read =
        result_within<Progress>(kLookLimit, [libvirt, uuid, flags]() -> absl::StatusOr<Progress> {
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt->get());
            GODWIT_ASSIGN_OR_RETURN(const DomainHandle domain, domain_by_uuid(connection, uuid));
            return read_progress(domain.get(), flags);
        });
    return read.value_or(std::nullopt);
}

// The final figures: the source has none of a domain that was transient, the destination has.
NativeProgress final_progress(const std::shared_ptr<LibvirtConnection>& libvirt,
                              const std::string& uuid, const NativeMove& move,
                              NativeProgress last) {
    constexpr unsigned int kCompleted = VIR_DOMAIN_JOB_STATS_COMPLETED;
    if (const Progress here = progress_at(libvirt, uuid, kCompleted)) return *here;
    last.downtime_ms = 0;  // expected ones are none
    const auto there = std::make_shared<LibvirtConnection>(move.destination);
    return progress_at(there, uuid, kCompleted).value_or(last);
}

bool abort_job(const std::shared_ptr<LibvirtConnection>& libvirt, const std::string& uuid) {
    return status_within(kLookLimit,
                         [libvirt, uuid] {
                             GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection,
                                                     libvirt->get());
                             GODWIT_ASSIGN_OR_RETURN(const DomainHandle domain,
                                                     domain_by_uuid(connection, uuid));
                             return virDomainAbortJob(domain.get()) == 0 ? absl::OkStatus()
                                                                         : libvirt_status("abort");
                         })
        .ok();
}

}  // namespace

absl::StatusOr<NativeProgress> migrate_by_libvirt(
    const std::shared_ptr<LibvirtConnection>& libvirt, const std::string& uuid,
    const NativeMove& move, const std::function<bool(const NativeProgress&)>& go_on) {
    const auto outcome = std::make_shared<absl::Status>();
    LateCall migration(kLibvirtCall, [libvirt, uuid, move, outcome] {
        *outcome = [&]() -> absl::Status {
            // Nobody else is to wait for a call that takes as long as the migration.
            GODWIT_ASSIGN_OR_RETURN(const ConnectHandle own, libvirt->open_another());
            GODWIT_ASSIGN_OR_RETURN(const DomainHandle domain, domain_by_uuid(own, uuid));
            return run_migration(domain.get(), move);
        }();
    });
    NativeProgress last;
    bool aborted = false;
    while (!migration.done_by(Clock::system().now() + kLookAgain)) {
        if (late_calls_are_over()) return libvirt_is_silent();
        last = progress_at(libvirt, uuid, 0).value_or(last);
        // Again and again: an abort may come before there is a job to abort.
        if (!go_on(last)) aborted |= abort_job(libvirt, uuid);
    }
    if (!outcome->ok()) return aborted ? absl::CancelledError(outcome->message()) : *outcome;
    return final_progress(libvirt, uuid, move, last);
}

}  // namespace godwit
