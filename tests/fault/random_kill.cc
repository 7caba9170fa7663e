#include "tests/fault/random_kill.h"

#include <cstdlib>

namespace godwit::testing {

std::vector<KillShard> kill_shards(int count, int kills, int huge_count, int huge_kills) {
    std::vector<KillShard> shards;
    for (int number = 0; number < count; ++number)
        shards.push_back({.number = number, .kills = kills});
    for (int number = 0; number < huge_count; ++number)
        shards.push_back({.number = number, .kills = huge_kills, .huge_pages = true});
    return shards;
}

std::string shard_name(const ::testing::TestParamInfo<KillShard>& shard) {
    return (shard.param.huge_pages ? "HugePages" : "") + std::to_string(shard.param.number);
}

uint64_t AnythingStruck::draw_seed(int n) {
    const KillShard shard = GetParam();
    uint64_t seed = random_();
    if (!shard.huge_pages) {
        const auto which = static_cast<size_t>(shard.number * shard.kills + n);
        return next_seed_of(seed, kKillKinds.at(which % kKillKinds.size()));
    }
    while (!can(draw_plan(seed).kind)) ++seed;
    return seed;
}

TEST_P(AnythingStruck, LeavesOneWholeGuestAndNothingElse) {
    const KillShard shard = GetParam();
    // Most VMs have what the others have.
    use_backing(shard.huge_pages ? "hugetlb-2M" : shard.number % 3 == 1 ? "4k" : "thp");
    if (const char* given = std::getenv("GODWIT_FAULT_SEED"))
        return run(draw_plan(std::strtoull(given, nullptr, 0)));
    for (int i = 0; i < shard.kills && !HasFailure(); ++i) run(draw_plan(draw_seed(i)));
}

}  // namespace godwit::testing
