// Three hundred random kills; random_kill_test.cc has forty.
#include "tests/fault/random_kill.h"

namespace godwit::testing {

INSTANTIATE_TEST_SUITE_P(Many, AnythingStruck, ::testing::ValuesIn(kill_shards(26, 10, 8, 5)),
                         shard_name);

}  // namespace godwit::testing
