#include "transport/ring/zero_copy_gauge.h"

#include "engine/base/status.h"

namespace godwit {

void ZeroCopyGauge::reported(bool copied) {
    if (use_ == Use::kNever) return;  // of one before the last
    if (!copied) {
        ++reports_;
        return;
    }
    reason_ = "off: the kernel copied all the same";
    if (use_ == Use::kWhereItPays) use_ = Use::kNever;
}

void ZeroCopyGauge::failed(int error_number) {
    reason_ = "off: " + std::string(errno_status(error_number, "send_zc").message());
    use_ = Use::kNever;
}

std::string ZeroCopyGauge::explain() const { return pays() ? "on" : reason_; }

}  // namespace godwit
