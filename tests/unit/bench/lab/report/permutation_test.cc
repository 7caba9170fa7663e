#include "bench/lab/report/permutation.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

TEST(Permutation, DeltaIsHowMuchMoreOftenOneIsAboveTheOther) {
    EXPECT_EQ(cliffs_delta({1, 2, 3}, {4, 5, 6}), -1);
    EXPECT_EQ(cliffs_delta({4, 5, 6}, {1, 2, 3}), 1);
    EXPECT_EQ(cliffs_delta({1, 2}, {1, 2}), 0);
    EXPECT_EQ(cliffs_delta({2, 2}, {1, 3}), 0);
    EXPECT_EQ(cliffs_delta({}, {1}), 0);
}

TEST(Permutation, TwoHandfulsApartAreAsRareAsTheyCanBe) {
    // 2 of the 252 ways to choose 5 of 10.
    EXPECT_NEAR(permutation_p({1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}), 2.0 / 252, 1e-12);
    // 2 of 20.
    EXPECT_NEAR(permutation_p({1, 2, 3}, {7, 8, 9}), 0.1, 1e-12);
}

TEST(Permutation, SoFewValuesCannotBeRarerThanThis) {
    EXPECT_EQ(least_p(5, 5), permutation_p({1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}));
    EXPECT_EQ(least_p(3, 3), permutation_p({1, 2, 3}, {7, 8, 9}));
    EXPECT_LT(least_p(10, 10), 1e-4);
    EXPECT_EQ(least_p(1, 1), 1);
    EXPECT_EQ(least_p(0, 5), 1);
}

TEST(Permutation, OfManyTestsTheSurestIsCorrectedMost) {
    const std::vector<double> corrected = holm({0.04, 0.01, 0.03, 0.9});
    ASSERT_EQ(corrected.size(), 4U);
    EXPECT_DOUBLE_EQ(corrected[1], 0.04);  // 4 x 0.01
    EXPECT_DOUBLE_EQ(corrected[2], 0.09);  // 3 x 0.03
    EXPECT_DOUBLE_EQ(corrected[0], 0.09);  // 2 x 0.04 would be surer than the one before
    EXPECT_DOUBLE_EQ(corrected[3], 0.9);
    EXPECT_EQ(holm({0.6, 0.7}), (std::vector<double>{1, 1}));
    EXPECT_TRUE(holm({}).empty());
}

TEST(Permutation, EqualOnesAreNoDifferenceAtAll) {
    EXPECT_EQ(permutation_p({1, 2, 3}, {1, 2, 3}), 1);
    EXPECT_EQ(permutation_p({5, 5, 5}, {5, 5, 5}), 1);
    EXPECT_EQ(permutation_p({}, {1, 2}), 1);
}

TEST(Permutation, ManyAreDrawnTheSameForTheSameSeed) {
    std::vector<double> a;
    std::vector<double> b;
    for (int i = 0; i < 12; ++i) {
        a.push_back(i);
        b.push_back(i + 100);
    }
    const double p = permutation_p(a, b, 7);
    EXPECT_EQ(p, permutation_p(a, b, 7));
    EXPECT_GT(p, 0);
    EXPECT_LT(p, 0.001);
}

TEST(Permutation, OneWildRunWeighsNoMoreThanAnother) {
    EXPECT_EQ(permutation_p({1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}),
              permutation_p({1, 2, 3, 4, 5}, {6, 7, 8, 9, 1e9}));
}

}  // namespace
}  // namespace godwit
