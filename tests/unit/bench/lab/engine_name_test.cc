#include "bench/lab/engine_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

std::vector<std::string> names(std::string_view list) {
    std::vector<std::string> texts;
    const auto engines = parse_engines(list);
    EXPECT_TRUE(engines.ok()) << engines.status();
    if (engines.ok())
        for (const EngineName& engine : *engines) texts.push_back(engine.text);
    return texts;
}

TEST(EngineName, SaysModeBackingAndPasses) {
    const auto name = parse_engine("qemu-preempt-shared@2");
    ASSERT_TRUE(name.ok()) << name.status();
    EXPECT_EQ(name->kind, EngineKind::kQemu);
    EXPECT_EQ(name->mode, QemuMode::kPreempt);
    EXPECT_TRUE(name->shared);
    EXPECT_EQ(name->passes, 2);
}

TEST(EngineName, PassesAnyStrategyOfGodwitThrough) {
    const auto name = parse_engine("godwit-stop-and-copy");
    ASSERT_TRUE(name.ok()) << name.status();
    EXPECT_EQ(name->kind, EngineKind::kGodwit);
    EXPECT_EQ(name->strategy, "stop-and-copy");
}

TEST(EngineName, KnowsTheModesOfLibvirt) {
    const auto parallel = parse_engine("libvirt-parallel");
    ASSERT_TRUE(parallel.ok()) << parallel.status();
    EXPECT_EQ(parallel->kind, EngineKind::kLibvirt);
    EXPECT_TRUE(is_multifd(parallel->mode));
    EXPECT_TRUE(is_postcopy(parse_engine("libvirt-postcopy")->mode));
    EXPECT_FALSE(parse_engine("libvirt-xbzrle").ok());
    EXPECT_FALSE(parse_engine("libvirt-precopy-shared").ok());
}

TEST(EngineName, KnowsTheModesThatCompressAndThePlainCopy) {
    const auto zstd = parse_engine("qemu-multifd-zstd-shared");
    ASSERT_TRUE(zstd.ok()) << zstd.status();
    EXPECT_EQ(zstd->mode, QemuMode::kMultifdZstd);
    EXPECT_TRUE(zstd->shared);
    EXPECT_TRUE(is_multifd(zstd->mode));
    EXPECT_EQ(parse_engine("qemu-xbzrle")->mode, QemuMode::kXbzrle);
    EXPECT_EQ(parse_engine("copy")->kind, EngineKind::kCopy);
}

TEST(EngineName, RefusesWhatIsNone) {
    for (const char* text : {"", "qemu", "qemu-", "qemu-zstd", "qemu-precopy@1", "qemu-postcopy@",
                             "qemu-postcopy@x", "qemu-postcopy@-1", "qemu-postcopy@1000", "godwit-",
                             "godwit---json", "godwit-a b", "floor-shared"})
        EXPECT_EQ(parse_engine(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
}

TEST(EngineName, AGroupIsItsMembersAndNoneComesTwice) {
    EXPECT_EQ(names("qemu-postcopy,qemu,floor"),
              (std::vector<std::string>{"qemu-postcopy", "qemu-precopy", "qemu-multifd",
                                        "qemu-preempt", "floor"}));
    EXPECT_THAT(names("all"), ::testing::IsSupersetOf({"floor", "qemu-preempt", "godwit-hybrid",
                                                       "qemu-multifd-shared"}));
    EXPECT_THAT(names("all"), ::testing::Not(::testing::Contains("copy")));
    EXPECT_THAT(names("qemu"), ::testing::Not(::testing::Contains("qemu-xbzrle")));
}

TEST(EngineName, AnEmptyListIsRefused) {
    EXPECT_FALSE(parse_engines("").ok());
    EXPECT_FALSE(parse_engines(",").ok());
}

}  // namespace
}  // namespace godwit
