#include "bench/lab/report/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace godwit {
namespace {

constexpr double kWidth = 640;
constexpr double kHeight = 420;
constexpr double kLeft = 70;
constexpr double kRight = 20;
constexpr double kTop = 36;
constexpr double kBottom = 52;
constexpr double kLegendLine = 16;
constexpr int kTicks = 6;
// Told apart by people who see colours differently, too (Okabe and Ito's palette).
constexpr std::array<const char*, 7> kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                              "#e69f00", "#56b4e9", "#000000"};

struct Range {
    double low = 0;
    double high = 1;
};

bool shows(const PlotAxis& axis, double value) {
    return std::isfinite(value) && (!axis.logarithmic || value > 0);
}

// Where on the axis, before it is scaled to the picture.
double place(const PlotAxis& axis, double value) {
    return axis.logarithmic ? std::log10(value) : value;
}

Range range_of(const Plot& plot, const PlotAxis& axis, double PlotPoint::*member) {
    Range range{.low = HUGE_VAL, .high = -HUGE_VAL};
    for (const PlotSeries& series : plot.series)
        for (const PlotPoint& point : series.points) {
            if (!shows(plot.x, point.x) || !shows(plot.y, point.y)) continue;
            range.low = std::min(range.low, place(axis, point.*member));
            range.high = std::max(range.high, place(axis, point.*member));
        }
    if (range.low > range.high) return {};
    if (!axis.logarithmic) range.low = std::min(range.low, 0.0);
    const double margin = std::max((range.high - range.low) * 0.05, 1e-9);
    if (axis.logarithmic || range.low < 0) range.low -= margin;
    range.high += margin;
    return range;
}

// 1, 2 or 5 times a power of ten, about kTicks of them.
double tick_step(const Range& range) {
    const double rough = (range.high - range.low) / kTicks;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    for (const double factor : {1.0, 2.0, 5.0})
        if (rough <= factor * power) return factor * power;
    return 10 * power;
}

// Values, as they are labelled.
std::vector<double> ticks_of(const PlotAxis& axis, const Range& range) {
    std::vector<double> ticks;
    if (!axis.logarithmic) {
        const double step = tick_step(range);
        const auto last = static_cast<int64_t>(std::floor(range.high / step));
        for (auto i = static_cast<int64_t>(std::ceil(range.low / step)); i <= last; ++i)
            ticks.push_back(static_cast<double>(i) * step);
        return ticks;
    }
    const bool few = range.high - range.low < 2;
    const int last = static_cast<int>(std::floor(range.high));
    for (int power = static_cast<int>(std::floor(range.low)); power <= last; ++power)
        for (const double factor : {1.0, 2.0, 5.0}) {
            const double tick = factor * std::pow(10, power);
            if ((factor > 1 && !few) || std::log10(tick) < range.low ||
                std::log10(tick) > range.high)
                continue;
            ticks.push_back(tick);
        }
    return ticks;
}

std::string escaped(const std::string& text) {
    std::string safe;
    for (const char c : text) {
        if (c == '<')
            safe += "&lt;";
        else if (c == '&')
            safe += "&amp;";
        else
            safe += c;
    }
    return safe;
}

class Canvas {
  public:
    explicit Canvas(const Plot& plot)
        : plot_(plot),
          x_(range_of(plot, plot.x, &PlotPoint::x)),
          y_(range_of(plot, plot.y, &PlotPoint::y)) {
        if (plot.diagonal) {
            x_ = {.low = std::min(x_.low, y_.low), .high = std::max(x_.high, y_.high)};
            y_ = x_;
        }
    }

    std::string draw() {
        svg_ = fmt::format(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"{0:g}\" height=\"{1:g}\" fill=\"#ffffff\"/>\n",
            kWidth, kHeight);
        text(kWidth / 2, 20, "middle", plot_.title);
        axes();
        if (plot_.diagonal)
            svg_ += fmt::format(
                "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#888888\" "
                "stroke-dasharray=\"5 4\"/>\n",
                kLeft, kHeight - kBottom, kWidth - kRight, kTop);
        for (size_t i = 0; i < plot_.series.size(); ++i) series(i);
        return svg_ + "</svg>\n";
    }

  private:
    double left_of(double value) const {
        return kLeft +
               (place(plot_.x, value) - x_.low) / (x_.high - x_.low) * (kWidth - kLeft - kRight);
    }
    double top_of(double value) const {
        return kHeight - kBottom -
               (place(plot_.y, value) - y_.low) / (y_.high - y_.low) * (kHeight - kTop - kBottom);
    }
    void text(double x, double y, const char* anchor, const std::string& words) {
        svg_ += fmt::format(
            "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" fill=\"#222222\">{}</text>\n", x, y,
            anchor, escaped(words));
    }
    void rule(double x1, double y1, double x2, double y2, const char* colour) {
        svg_ += fmt::format(
            "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1,
            y1, x2, y2, colour);
    }
    void axes() {
        for (const double tick : ticks_of(plot_.x, x_)) {
            rule(left_of(tick), kTop, left_of(tick), kHeight - kBottom, "#e6e6e6");
            text(left_of(tick), kHeight - kBottom + 16, "middle", fmt::format("{:g}", tick));
        }
        for (const double tick : ticks_of(plot_.y, y_)) {
            rule(kLeft, top_of(tick), kWidth - kRight, top_of(tick), "#e6e6e6");
            text(kLeft - 6, top_of(tick) + 4, "end", fmt::format("{:g}", tick));
        }
        rule(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "#222222");
        rule(kLeft, kTop, kLeft, kHeight - kBottom, "#222222");
        text((kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", plot_.x.label);
        svg_ += fmt::format(
            "<text transform=\"translate(16 {:.1f}) rotate(-90)\" text-anchor=\"middle\" "
            "fill=\"#222222\">{}</text>\n",
            (kTop + kHeight - kBottom) / 2, escaped(plot_.y.label));
    }
    void series(size_t index) {
        const PlotSeries& one = plot_.series[index];
        const char* colour = kColours[index % kColours.size()];
        std::string path;
        for (const PlotPoint& point : one.points) {
            if (!shows(plot_.x, point.x) || !shows(plot_.y, point.y)) continue;
            const double x = left_of(point.x);
            const double y = top_of(point.y);
            path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : " L", x, y);
            svg_ += fmt::format(
                "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\" "
                "fill-opacity=\"0.75\"/>\n",
                x, y, colour);
        }
        if (one.line && !path.empty())
            svg_ += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\"/>\n", path, colour);
        const double y = kTop + 12 + kLegendLine * static_cast<double>(index);
        svg_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n",
                            kLeft + 12, y - 4, colour);
        text(kLeft + 22, y, "start", one.label);
    }

    const Plot& plot_;
    Range x_;
    Range y_;
    std::string svg_;
};

}  // namespace

std::string svg_plot(const Plot& plot) { return Canvas(plot).draw(); }

}  // namespace godwit
