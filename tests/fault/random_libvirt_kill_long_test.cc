// Sixty-six random kills between two libvirts; random_libvirt_kill_test.cc has six.
#include "tests/fault/random_libvirt_kill.h"

namespace godwit::testing {

INSTANTIATE_TEST_SUITE_P(Many, LibvirtStruck, ::testing::ValuesIn(libvirt_shards(11, 6)),
                         libvirt_shard_name);

}  // namespace godwit::testing
