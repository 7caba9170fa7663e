// A few random kills and cuts; random_drain_long_test.cc has many.
#include "tests/fault/random_drain.h"

namespace godwit::testing {

INSTANTIATE_TEST_SUITE_P(Few, RandomKills, ::testing::Range(0, 5));
INSTANTIATE_TEST_SUITE_P(Few, RandomCuts, ::testing::Range(0, 5));

}  // namespace godwit::testing
