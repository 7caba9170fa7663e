// ResidentGuestLog: the resident's log as a GuestLog.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "dirty-tracking/kvm/guest_log.h"
#include "dirty-tracking/resident/resident_client.h"
#include "engine/base/ram_block.h"

namespace godwit {

class ResidentGuestLog final : public GuestLog {
  public:
    // `blocks` are only used during the call. Errors: ResidentClient::connect()'s;
    // FailedPrecondition when the log can't be used, with the resident's reason.
    static absl::StatusOr<std::unique_ptr<ResidentGuestLog>> connect(
        const std::string& socket_path, pid_t pid, std::span<const RamBlock> blocks);

    absl::StatusOr<std::vector<AddressRange>> views() override;
    absl::StatusOr<std::vector<std::string>> warnings() override;
    absl::Status start() override { return client_->start_log(blocks_); }
    absl::Status collect(PageSet& dirty) override { return client_->collect(dirty); }
    absl::Status rearm(BlockIndex block, PageRange range) override {
        return client_->rearm(block, range);
    }
    // Success when the resident is gone: it has switched the log off by itself.
    absl::Status stop() override;

  private:
    explicit ResidentGuestLog(std::unique_ptr<ResidentClient> client)
        : client_(std::move(client)) {}

    std::unique_ptr<ResidentClient> client_;
    std::vector<RamBlock> blocks_;  // without files
};

}  // namespace godwit
