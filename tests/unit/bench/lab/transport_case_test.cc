#include "bench/lab/transport_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace godwit {
namespace {

using ::testing::HasSubstr;

TEST(TransportCase, EveryTargetIsAboutContendersThatTheCaseHas) {
    for (const TransportCase& one : transport_cases()) {
        const auto engines = parse_engines(one.engines);
        ASSERT_TRUE(engines.ok()) << one.name << ": " << engines.status();
        std::set<std::string> labels;
        for (const Contender& contender : contenders_of(one, *engines)) {
            EXPECT_TRUE(check_guest(contender.guest).ok()) << one.name;
            labels.insert(contender.label);
        }
        for (const Target& target : one.targets) {
            EXPECT_TRUE(labels.contains(target.ours)) << one.name << ": " << target.ours;
            for (const std::string& peer : target.peers)
                EXPECT_TRUE(labels.contains(peer)) << one.name << ": " << peer;
        }
    }
}

TEST(TransportCase, AListIsReadInItsOrderAndAnUnknownNameSaysWhatThereIs) {
    const auto cases = parse_cases("dense,sparse");
    ASSERT_TRUE(cases.ok()) << cases.status();
    ASSERT_EQ(cases->size(), 2U);
    EXPECT_EQ(cases->front().name, "dense");
    EXPECT_EQ(parse_cases("all")->size(), transport_cases().size());
    EXPECT_THAT(std::string(parse_cases("huge").status().message()), HasSubstr("text-1g"));
    EXPECT_FALSE(parse_cases("").ok());
}

TEST(TransportCase, GuestsOfOneCaseAreToldApartByTheirMemory) {
    const auto cases = parse_cases("sparse-1t");
    ASSERT_TRUE(cases.ok()) << cases.status();
    const auto contenders = contenders_of(cases->front(), *parse_engines("godwit-precopy"));
    ASSERT_EQ(contenders.size(), 2U);
    EXPECT_EQ(contenders[0].label, "godwit-precopy 4.00 GiB");
    EXPECT_EQ(contenders[1].label, "godwit-precopy 1.00 TiB");
}

TEST(TransportCase, TheWriterWritesHalfOfWhatTheLinkSends) {
    const auto cases = parse_cases("redirty-1g");
    ASSERT_TRUE(cases.ok()) << cases.status();
    const TransportCase& one = cases->front();
    const double r = static_cast<double>(one.guests.front().writes_per_s * kPageBytes) /
                     static_cast<double>(one.link_rate);
    EXPECT_NEAR(r, 0.5, 1e-3);
}

}  // namespace
}  // namespace godwit
