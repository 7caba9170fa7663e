// ZeroCopyGauge: whether a stream's large sends leave without a copy (IORING_OP_SEND_ZC).
//
// The kernel copies all the same where it has to: on loopback and veth, on a device without
// scatter-gather, for a program that listens. Then the page pins and notifications are cost without
// a gain. It says so after each send (IORING_SEND_ZC_REPORT_USAGE): the first large send is a
// trial, and one that was copied is the last.
#pragma once

#include <cstddef>
#include <string>

namespace godwit {

class ZeroCopyGauge {
  public:
    // Below this a copy is cheaper than pinning pages and waiting for word that they are free
    // (the kernel's msg_zerocopy.rst draws the line at 10 KB; frames of pages are far above or
    // below).
    static constexpr size_t kLeastBytes = size_t{64} << 10;

    enum class Use {
        kNever,
        kWhereItPays,
        kAlways,  // for tests: also where it was copied
    };
    void allow(Use use) { use_ = use; }

    [[nodiscard]] bool wants(size_t bytes) const {
        return use_ != Use::kNever && bytes >= kLeastBytes;
    }
    // What the kernel said of one that went this way.
    void reported(bool copied);
    // It can't be done here.
    void failed(int error_number);

    // Whether sends go without a copy, as the kernel says.
    [[nodiscard]] bool pays() const { return use_ != Use::kNever && reports_ > 0; }
    // For the log: "on", or why not.
    [[nodiscard]] std::string explain() const;

  private:
    Use use_ = Use::kNever;
    size_t reports_ = 0;  // without a copy
    std::string reason_ = "not tried: the peer is too far away, or nothing large was sent";
};

}  // namespace godwit
