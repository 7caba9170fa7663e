// Six random kills, of libvirtds; random_libvirt_kill_long_test.cc has sixty-six, of anything.
#include "tests/fault/random_libvirt_kill.h"

namespace godwit::testing {

INSTANTIATE_TEST_SUITE_P(Shard, LibvirtStruck, ::testing::ValuesIn(libvirt_shards(2, 3)),
                         libvirt_shard_name);

}  // namespace godwit::testing
