// libvirtds, agents, guards and QEMUs of a domain that moves are killed, stopped and restarted at
// any moment. The seed of each is printed; GODWIT_FAULT_SEED takes it again, alone, in the test
// that printed it.
#pragma once

#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "tests/fault/libvirt_kill_lab.h"

namespace godwit::testing {

// So many in one lab. Every kind gets its turn, shard after shard.
struct LibvirtShard {
    int number = 0;
    int kills = 0;
};

inline std::ostream& operator<<(std::ostream& out, const LibvirtShard& shard) {
    return out << shard.kills << " kills";
}

class LibvirtStruck : public LibvirtKillLab, public ::testing::WithParamInterface<LibvirtShard> {
  protected:
    // The seed of the n-th kill of this shard.
    uint64_t draw_seed(int n);

  private:
    std::random_device random_;
};

std::vector<LibvirtShard> libvirt_shards(int count, int kills);
std::string libvirt_shard_name(const ::testing::TestParamInfo<LibvirtShard>& shard);

}  // namespace godwit::testing
