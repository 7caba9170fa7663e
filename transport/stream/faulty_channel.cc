#include "transport/stream/faulty_channel.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace godwit {
namespace {

// How many of `count` bytes from byte number `done` on get through.
size_t bytes_before_cut(const ChannelFaults& faults, uint64_t done, size_t count) {
    if (!faults.cut_after) return count;
    return std::min<uint64_t>(count, *faults.cut_after - std::min(*faults.cut_after, done));
}

void flip(const ChannelFaults& faults, uint64_t done, std::span<std::byte> bytes) {
    if (!faults.flip_byte || *faults.flip_byte < done || *faults.flip_byte - done >= bytes.size())
        return;
    bytes[*faults.flip_byte - done] ^= std::byte{1} << faults.flip_bit;
}

}  // namespace

FaultyChannel::FaultyChannel(std::unique_ptr<Channel> inner, const Options& options, Wakeup stopped)
    : inner_(std::move(inner)), options_(options), stopped_(std::move(stopped)) {}

absl::StatusOr<std::unique_ptr<FaultyChannel>> FaultyChannel::create(std::unique_ptr<Channel> inner,
                                                                     const Options& options) {
    GODWIT_ASSIGN_OR_RETURN(Wakeup stopped, Wakeup::create());
    return std::unique_ptr<FaultyChannel>(
        new FaultyChannel(std::move(inner), options, std::move(stopped)));
}

absl::Status FaultyChannel::delay(Duration duration) {
    if (duration == Duration::zero()) return absl::OkStatus();
    const absl::Status status = wait_readable(stopped_.fd(), -1, Clock::system().now() + duration);
    if (absl::IsDeadlineExceeded(status)) return absl::OkStatus();
    return status.ok() ? absl::CancelledError("the channel was shut down") : status;
}

absl::Status FaultyChannel::send(std::span<const std::byte> bytes) {
    const ChannelFaults& faults = options_.send;
    GODWIT_RETURN_IF_ERROR(delay(faults.delay));
    std::vector<std::byte> changed(bytes.begin(), bytes.end());
    flip(faults, sent_, changed);
    const size_t count = bytes_before_cut(faults, sent_, bytes.size());
    GODWIT_RETURN_IF_ERROR(inner_->send(std::span<const std::byte>(changed).first(count)));
    sent_ += count;
    if (count == bytes.size()) return absl::OkStatus();
    inner_->shutdown();
    return absl::UnavailableError("the connection was cut");
}

absl::Status FaultyChannel::receive(std::span<std::byte> bytes) {
    const ChannelFaults& faults = options_.receive;
    GODWIT_RETURN_IF_ERROR(delay(faults.delay));
    const size_t count = bytes_before_cut(faults, received_, bytes.size());
    GODWIT_RETURN_IF_ERROR(inner_->receive(bytes.first(count)));
    flip(faults, received_, bytes.first(count));
    received_ += count;
    if (count == bytes.size()) return absl::OkStatus();
    inner_->shutdown();
    return absl::UnavailableError("the connection was cut");
}

void FaultyChannel::shutdown() {
    stopped_.notify();
    inner_->shutdown();
}

}  // namespace godwit
