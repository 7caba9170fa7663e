#include "tests/harness/huge_pages.h"

#include <fstream>

namespace godwit::testing {
namespace {

constexpr const char* kReserve = "/proc/sys/vm/nr_hugepages";

uint64_t reserved() {
    uint64_t count = 0;
    std::ifstream(kReserve) >> count;
    return count;
}

}  // namespace

ReservedHugePages::ReservedHugePages(uint64_t count) : before_(reserved()) {
    std::ofstream(kReserve) << before_ + count;
    enough_ = reserved() >= before_ + count;
}

ReservedHugePages::~ReservedHugePages() { std::ofstream(kReserve) << before_; }

}  // namespace godwit::testing
