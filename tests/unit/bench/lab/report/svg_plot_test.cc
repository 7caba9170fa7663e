#include "bench/lab/report/svg_plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace godwit {
namespace {

size_t count(const std::string& text, const std::string& what) {
    size_t found = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
        ++found;
    return found;
}

TEST(SvgPlot, DrawsADotForEachPointAndOneForTheLegend) {
    const std::string svg =
        svg_plot({.title = "t", .series = {{.label = "a", .points = {{1, 2}, {2, 3}, {3, 1}}}}});
    EXPECT_EQ(count(svg, "<circle"), 4U);
    EXPECT_EQ(count(svg, "<path"), 0U);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(SvgPlot, LeavesOutWhatHasNoPlaceOnAnAxis) {
    const double none = std::numeric_limits<double>::quiet_NaN();
    const std::string svg = svg_plot(
        {.title = "t",
         .x = {.label = "x", .logarithmic = true},
         .y = {.label = "y", .logarithmic = true},
         .series = {{.label = "a",
                     .points = {{1, 1}, {0, 1}, {-1, 1}, {1, none}, {HUGE_VAL, 1}, {10, 10}},
                     .line = true}}});
    EXPECT_EQ(count(svg, "<circle"), 3U);
    EXPECT_EQ(count(svg, "<path"), 1U);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(SvgPlot, OfNothingIsAnEmptyPicture) {
    const std::string svg = svg_plot({.title = "a < b & c", .series = {{.label = "none"}}});
    EXPECT_NE(svg.find("a &lt; b &amp; c"), std::string::npos);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(SvgPlot, OnePointHasRoomAroundIt) {
    const std::string svg =
        svg_plot({.title = "t", .series = {{.label = "a", .points = {{0, 0}}, .line = true}}});
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
}

}  // namespace
}  // namespace godwit
