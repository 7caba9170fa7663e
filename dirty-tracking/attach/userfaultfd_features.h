// The userfaultfd features that Godwit asks for, by value: Debian 12's headers are of kernel 6.1
// and lack the newer ones (Documentation/admin-guide/mm/userfaultfd.rst).
#pragma once

#include <cstdint>

namespace godwit {

inline constexpr uint64_t kUffdPagefaultFlagWp = uint64_t{1} << 0;
inline constexpr uint64_t kUffdMissingHugetlbfs = uint64_t{1} << 4;
inline constexpr uint64_t kUffdMissingShmem = uint64_t{1} << 5;
inline constexpr uint64_t kUffdMinorHugetlbfs = uint64_t{1} << 9;
inline constexpr uint64_t kUffdMinorShmem = uint64_t{1} << 10;
inline constexpr uint64_t kUffdWpHugetlbfsShmem = uint64_t{1} << 12;  // kernel 5.19
inline constexpr uint64_t kUffdWpUnpopulated = uint64_t{1} << 13;     // kernel 6.4
inline constexpr uint64_t kUffdWpAsync = uint64_t{1} << 15;           // kernel 6.7

// Tracking needs the first line, post-copy the second: one descriptor serves both in its turn.
inline constexpr uint64_t kUffdTrackingFeatures =
    kUffdPagefaultFlagWp | kUffdWpHugetlbfsShmem | kUffdWpUnpopulated | kUffdWpAsync;
inline constexpr uint64_t kUffdPostcopyFeatures =
    kUffdMissingHugetlbfs | kUffdMissingShmem | kUffdMinorHugetlbfs | kUffdMinorShmem;
inline constexpr uint64_t kUffdFeatures = kUffdTrackingFeatures | kUffdPostcopyFeatures;

}  // namespace godwit
