// Both kinds of rings, for tests of what works with either.
#pragma once

#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "transport/ring/ring.h"

namespace godwit {

inline const auto kRingKinds = testing::Values(RingKind::kIoUring, RingKind::kSockets);

inline std::string name_of_kind(const testing::TestParamInfo<RingKind>& kind) {
    return kind.param == RingKind::kIoUring ? "IoUring" : "Sockets";
}

inline void PrintTo(RingKind kind, std::ostream* out) { *out << ring_kind_name(kind); }

}  // namespace godwit
