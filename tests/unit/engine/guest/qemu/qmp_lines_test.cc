#include "engine/guest/qemu/qmp_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace godwit {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class QmpLinesTest : public testing::Test {
  protected:
    absl::Status append(std::string_view bytes) {
        return lines_.append(bytes, [this](std::string_view line) {
            seen_.emplace_back(line);
            return line == "bad" ? absl::InternalError("bad") : absl::OkStatus();
        });
    }
    QmpLines lines_{8};
    std::vector<std::string> seen_;
};

TEST_F(QmpLinesTest, ALineMayComeInPiecesAndSeveralAtOnce) {
    EXPECT_TRUE(append("on").ok());
    EXPECT_TRUE(append("e").ok());
    EXPECT_THAT(seen_, IsEmpty());
    EXPECT_TRUE(append("\r\n\n\r\ntwo\nth").ok());
    EXPECT_THAT(seen_, ElementsAre("one", "two"));
    EXPECT_EQ(lines_.kept_bytes(), 2u);
    EXPECT_TRUE(append("ree\r").ok());
    EXPECT_TRUE(append("\n").ok());
    EXPECT_THAT(seen_, ElementsAre("one", "two", "three"));
}

TEST_F(QmpLinesTest, ALineThatIsTooLongIsRefusedBeforeItsEndHasCome) {
    EXPECT_TRUE(append("12345678").ok());
    EXPECT_TRUE(absl::IsInternal(append("9")));
    EXPECT_LE(lines_.kept_bytes(), 8u);
}

TEST_F(QmpLinesTest, ALineThatIsTooLongIsRefusedThoughItsEndCameWithIt) {
    EXPECT_TRUE(append("12345678\n").ok());
    EXPECT_TRUE(absl::IsInternal(append("123456789\n")));
    EXPECT_THAT(seen_, ElementsAre("12345678"));
}

TEST_F(QmpLinesTest, WhatIsWrongWithALineEndsTheStream) {
    EXPECT_TRUE(absl::IsInternal(append("good\nbad\nmore\n")));
    EXPECT_THAT(seen_, ElementsAre("good", "bad"));
}

}  // namespace
}  // namespace godwit
