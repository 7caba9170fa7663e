// FaultyChannel: a Channel that fails on purpose, for tests.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/wait.h"
#include "transport/stream/channel.h"

namespace godwit {

// The faults of one direction; byte numbers count from the first byte of the channel.
struct ChannelFaults {
    std::optional<uint64_t> cut_after;  // the connection is lost after this many bytes
    std::optional<uint64_t> flip_byte;  // bit `flip_bit` of this byte is inverted
    unsigned flip_bit = 0;              // 0 … 7
    Duration delay{};                   // of every call; shutdown() ends it
};

// As the channel it wraps, which it owns. A cut shuts the inner channel down, so the peer sees it.
class FaultyChannel : public Channel {
  public:
    struct Options {
        ChannelFaults send;
        ChannelFaults receive;
    };
    static absl::StatusOr<std::unique_ptr<FaultyChannel>> create(std::unique_ptr<Channel> inner,
                                                                 const Options& options);

    absl::Status send(std::span<const std::byte> bytes) override;
    absl::Status receive(std::span<std::byte> bytes) override;
    void shutdown() override;

  private:
    FaultyChannel(std::unique_ptr<Channel> inner, const Options& options, Wakeup stopped);
    absl::Status delay(Duration duration);

    std::unique_ptr<Channel> inner_;
    const Options options_;
    Wakeup stopped_;
    uint64_t sent_ = 0;      // of the sending thread
    uint64_t received_ = 0;  // of the receiving thread
};

}  // namespace godwit
