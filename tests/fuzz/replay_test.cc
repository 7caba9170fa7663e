#include "tests/fuzz/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "engine/base/check.h"

namespace godwit {
namespace {

using testing::HasSubstr;

class Corpus : public testing::Test {
  protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "corpus-XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        directory_ = name;
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    void add(const std::string& name, const std::string& content) const {
        std::ofstream(directory_ + "/" + name, std::ios::binary) << content;
    }
    std::string directory_;
};

const auto kIgnore = [](const uint8_t*, size_t) {};

// The defect: a length that is believed.
void trusts_its_length(const uint8_t* data, size_t size) {
    if (size > 0) GODWIT_CHECK(data[0] < size);
}

TEST_F(Corpus, EveryFileIsRunAsItIs) {
    add("a", "first");
    add("b", "second");
    add("c", "");
    std::multiset<std::string> seen;
    const auto replayed = replay_corpus(directory_, [&](const uint8_t* data, size_t size) {
        seen.emplace(reinterpret_cast<const char*>(data), size);
    });
    ASSERT_TRUE(replayed.ok()) << replayed.status();
    EXPECT_EQ(replayed->files, 3u);
    EXPECT_EQ(replayed->inputs, seen.size());
    EXPECT_GE(seen.count("first"), 1u);
    EXPECT_GE(seen.count("second"), 1u);
    EXPECT_GE(seen.count(""), 1u);
    EXPECT_GT(seen.size(), 3u) << "no variants";
}

TEST_F(Corpus, AnEmptyOneIsAFailure) {
    const auto replayed = replay_corpus(directory_, kIgnore);
    EXPECT_TRUE(absl::IsFailedPrecondition(replayed.status())) << replayed.status();
    EXPECT_THAT(std::string(replayed.status().message()), HasSubstr("empty"));
}

TEST_F(Corpus, OneThatIsMissingIsAFailure) {
    EXPECT_TRUE(absl::IsNotFound(replay_corpus(directory_ + "/none", kIgnore).status()));
}

TEST_F(Corpus, AnInputWithADefectEndsTheProcessAndIsNamed) {
    add("fine", std::string("\x02xx", 3));
    add("lies", std::string("\x09xx", 3));
    std::string running;
    EXPECT_DEATH(
        {
            (void)replay_corpus(directory_, trusts_its_length, [](const std::string& name) {
                std::fprintf(stderr, "running %s\n", name.c_str());
            });
        },
        "check failed");
}

TEST_F(Corpus, ADefectThatOnlyAVariantMeetsIsFound) {
    add("fine", std::string("\x03xxx", 4));
    EXPECT_DEATH((void)replay_corpus(directory_, trusts_its_length), "check failed");
}

TEST(Variants, AreTheSameInEveryRun) {
    const FuzzInput input{1, 2, 3, 4, 5, 6, 7, 8};
    const std::vector<FuzzInput> variants = variants_of(input);
    EXPECT_EQ(variants, variants_of(input));
    EXPECT_GT(std::set<FuzzInput>(variants.begin(), variants.end()).size(), 40u);
    EXPECT_THAT(variants, testing::Contains(FuzzInput{}));
    EXPECT_THAT(variants, testing::Contains(FuzzInput{1, 2, 3, 4, 5, 6, 7}));
    EXPECT_TRUE(variants_of({}).empty());
}

}  // namespace
}  // namespace godwit
