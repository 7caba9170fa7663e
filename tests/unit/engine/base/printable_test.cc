#include "engine/base/printable.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

TEST(Printable, HasNoControlCharacters) {
    EXPECT_EQ(printable("in doubt\n\x1b[2J\x7f"), "in doubt??[2J?");
    EXPECT_EQ(printable(std::string("a\0b", 3)), "a?b");
    // U+0085 and U+009B, which begins what ESC [ does; U+00A0 is a space.
    EXPECT_EQ(printable("a\xc2\x85\xc2\x9b"
                        "2J\xc2\xa0"),
              "a??2J\xc2\xa0");
}

TEST(Printable, LeavesEveryCharacterAlone) {
    // Of one to four bytes, and the first and last of each range that UTF-8 has.
    for (const char* text : {"", "plain", "gr\xc3\xbc\xc3\x9f", "\xe2\x82\xac", "\xf0\x9f\x90\xa6",
                             "~\xc2\xa0", "\xdf\xbf\xe0\xa0\x80", "\xed\x9f\xbf\xee\x80\x80",
                             "\xef\xbf\xbf\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
        EXPECT_EQ(printable(text), text);
}

TEST(Printable, HasAMarkForEachByteThatIsNoCharacter) {
    EXPECT_EQ(printable("disk \xff is full"), "disk ? is full");
    EXPECT_EQ(printable("\x80\xbf"), "??");
    EXPECT_EQ(printable("\xc3"), "?");  // its second byte is missing
    EXPECT_EQ(printable("\xc3z\xe2\x82z"), "?z??z");
    EXPECT_EQ(printable("\xc0\xaf"), "??");  // a slash in two bytes
    EXPECT_EQ(printable("\xe0\x9f\xbf"), "???");
    EXPECT_EQ(printable("\xed\xa0\x80"), "???");  // a surrogate
    EXPECT_EQ(printable("\xf0\x8f\xbf\xbf"), "????");
    EXPECT_EQ(printable("\xf4\x90\x80\x80"), "????");  // beyond U+10FFFF
    EXPECT_EQ(printable("\xf5"), "?");
}

TEST(Printable, IsCutBetweenCharacters) {
    EXPECT_EQ(printable(std::string(4095, 'x') + "\xc3\xbc"), std::string(4095, 'x'));
    EXPECT_EQ(printable(std::string(5000, 'x')).size(), kMostPrintableBytes);
    EXPECT_EQ(printable("\xc3\xbc\xc3\xbc", 3), "\xc3\xbc");
    EXPECT_EQ(printable("abc", 0), "");
}

}  // namespace
}  // namespace godwit
