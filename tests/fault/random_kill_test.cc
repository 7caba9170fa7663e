// Forty random kills; random_kill_long_test.cc has three hundred.
#include "tests/fault/random_kill.h"

namespace godwit::testing {

INSTANTIATE_TEST_SUITE_P(Shard, AnythingStruck, ::testing::ValuesIn(kill_shards(6, 6, 1, 4)),
                         shard_name);

}  // namespace godwit::testing
