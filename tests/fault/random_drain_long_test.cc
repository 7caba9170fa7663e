// Many random kills and cuts; random_drain_test.cc has a few.
#include "tests/fault/random_drain.h"

namespace godwit::testing {

INSTANTIATE_TEST_SUITE_P(Many, RandomKills, ::testing::Range(0, 20));
INSTANTIATE_TEST_SUITE_P(Many, RandomCuts, ::testing::Range(0, 20));

}  // namespace godwit::testing
