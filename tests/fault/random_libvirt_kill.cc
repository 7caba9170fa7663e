#include "tests/fault/random_libvirt_kill.h"

#include <cstdlib>

namespace godwit::testing {

std::vector<LibvirtShard> libvirt_shards(int count, int kills) {
    std::vector<LibvirtShard> shards;
    for (int number = 0; number < count; ++number)
        shards.push_back({.number = number, .kills = kills});
    return shards;
}

std::string libvirt_shard_name(const ::testing::TestParamInfo<LibvirtShard>& shard) {
    return std::to_string(shard.param.number);
}

uint64_t LibvirtStruck::draw_seed(int n) {
    const auto which = static_cast<size_t>(GetParam().number * GetParam().kills + n);
    return next_seed_of(random_(), kLibvirtKillKinds.at(which % kLibvirtKillKinds.size()),
                        kLibvirtKillKinds);
}

TEST_P(LibvirtStruck, LeavesOneWholeGuestAndAnOrdinaryDomain) {
    if (const char* given = std::getenv("GODWIT_FAULT_SEED"))
        return run(draw_plan(std::strtoull(given, nullptr, 0), kLibvirtKillKinds));
    for (int i = 0; i < GetParam().kills && !HasFailure(); ++i)
        run(draw_plan(draw_seed(i), kLibvirtKillKinds));
}

}  // namespace godwit::testing
