// Anything that can be done to a migration, at any moment of it. The seed of each is printed;
// GODWIT_FAULT_SEED takes it again, alone, in the test that printed it.
#pragma once

#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "tests/fault/kill_lab.h"

namespace godwit::testing {

// A shard: so many in one lab. Every kind gets its turn, shard after shard; but those with huge
// pages are few and take any, for other tests wait while they have them.
struct KillShard {
    int number = 0;
    int kills = 0;
    bool huge_pages = false;
};

inline std::ostream& operator<<(std::ostream& out, const KillShard& shard) {
    return out << shard.kills << " kills";
}

class AnythingStruck : public KillLab, public ::testing::WithParamInterface<KillShard> {
  protected:
    // The seed of the n-th kill of this shard.
    uint64_t draw_seed(int n);

  private:
    std::random_device random_;
};

// `count` shards of `kills` each, and `huge_count` of `huge_kills` with huge pages.
std::vector<KillShard> kill_shards(int count, int kills, int huge_count, int huge_kills);
// "7", "HugePages0".
std::string shard_name(const ::testing::TestParamInfo<KillShard>& shard);

}  // namespace godwit::testing
