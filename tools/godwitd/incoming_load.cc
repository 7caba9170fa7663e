#include "tools/godwitd/incoming_load.h"

namespace godwit {

void IncomingLoad::add(v1::IncomingState state, bool ended) {
    if (ended) return;
    ++all_;
    if (state == v1::INCOMING_STATE_WAITING) ++waiting_;
}

}  // namespace godwit
