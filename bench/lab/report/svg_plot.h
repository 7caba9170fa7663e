// Plots as SVG: dots and lines over two axes, with a legend. Pure: the same input gives the same
// text. Readable in light and dark surroundings, since the picture has its own ground.
#pragma once

#include <string>
#include <vector>

namespace godwit {

struct PlotPoint {
    double x = 0;
    double y = 0;
};

struct PlotSeries {
    std::string label;
    std::vector<PlotPoint> points;
    bool line = false;  // else dots
};

struct PlotAxis {
    std::string label;  // with its unit
    bool logarithmic = false;
};

struct Plot {
    std::string title;
    PlotAxis x;
    PlotAxis y;
    std::vector<PlotSeries> series;
    bool diagonal = false;  // y = x, dashed
};

// Points that are not finite, or not above 0 on a logarithmic axis, are left out.
std::string svg_plot(const Plot& plot);

}  // namespace godwit
