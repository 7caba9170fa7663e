#include "bench/lab/paper/experiment.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <fmt/format.h>

#include <cmath>

#include "engine/guest/vm_file/yaml_fields.h"

namespace godwit {
namespace {

constexpr size_t kMostFigures = 20;
constexpr size_t kMostSeries = 12;
constexpr size_t kMostValues = 200;

std::optional<double> number_of(const YamlFields& fields, const char* key) {
    const auto text = fields.text(key);
    if (!text) return std::nullopt;
    double value = 0;
    if (absl::SimpleAtod(*text, &value) && std::isfinite(value)) return value;
    fields.fault(key, fmt::format("\"{}\" is no number", *text));
    return std::nullopt;
}

PlotAxis read_axis(YamlFile& file, const YAML::Node& node, const std::string& field,
                   std::vector<double>* values) {
    const YamlFields fields(file, node, field, {"label", "log", "values"});
    if (values != nullptr)
        for (const YAML::Node& item : fields.list("values")) {
            double value = 0;
            if (!item.IsScalar() || !absl::SimpleAtod(item.Scalar(), &value) ||
                !std::isfinite(value))
                fields.fault("values", "each must be a number");
            values->push_back(value);
        }
    if (values != nullptr && (values->empty() || values->size() > kMostValues))
        fields.fault("values", fmt::format("there must be 1 to {} of them", kMostValues));
    return {.label = fields.text("label").value_or(""),
            .logarithmic = fields.boolean("log").value_or(false)};
}

ExperimentSeries read_series(YamlFile& file, const YAML::Node& node, const std::string& field) {
    const YamlFields fields(file, node, field,
                            {"label", "metric", "times", "run", "model", "input"});
    ExperimentSeries series{.label = fields.text("label").value_or(""),
                            .metric = fields.text("metric").value_or(""),
                            .times = number_of(fields, "times").value_or(1),
                            .run = fields.text("run").value_or(""),
                            .model = fields.text("model").value_or("")};
    if (series.metric.empty()) fields.fault("metric", "it must say what is plotted");
    if (series.run.empty() == series.model.empty())
        fields.fault("run", "there must be either a run or a model");
    const YAML::Node input = fields.child("input");
    if (!input.IsDefined() || input.IsNull()) return series;
    if (!input.IsMap()) {
        fields.fault("input", "it must be a mapping");
        return series;
    }
    for (const auto& entry : input) {
        if (entry.first.IsScalar() && entry.second.IsScalar())
            series.input[entry.first.Scalar()] = entry.second.Scalar();
        else
            fields.fault("input", "each must be a name and a value");
    }
    return series;
}

Figure read_figure(YamlFile& file, const YAML::Node& node, const std::string& field) {
    const YamlFields fields(file, node, field, {"name", "title", "x", "y", "series"});
    Figure figure{.name = fields.text("name").value_or(""),
                  .title = fields.text("title").value_or("")};
    if (figure.name.empty() || figure.name.find_first_of("/. ") != std::string::npos)
        fields.fault("name", "it becomes a file's: letters, digits and dashes");
    figure.x = read_axis(file, fields.child("x"), fields.field("x"), &figure.values);
    figure.y = read_axis(file, fields.child("y"), fields.field("y"), nullptr);
    const std::vector<YAML::Node> all = fields.list("series");
    if (all.empty() || all.size() > kMostSeries)
        fields.fault("series", fmt::format("there must be 1 to {} of them", kMostSeries));
    for (size_t i = 0; i < all.size() && i < kMostSeries; ++i)
        figure.series.push_back(
            read_series(file, all[i], fmt::format("{}[{}]", fields.field("series"), i)));
    return figure;
}

}  // namespace

absl::StatusOr<std::vector<Figure>> parse_experiment(const std::string& text,
                                                     const std::string& file) {
    YAML::Node root;
    try {
        root = YAML::Load(text);
    } catch (const YAML::Exception& error) {
        return absl::InvalidArgumentError(
            fmt::format("{}:{}: {}", file, error.mark.line + 1, error.msg));
    }
    YamlFile faults(file);
    const YamlFields fields(faults, root, "", {"figures"});
    const std::vector<YAML::Node> all = fields.list("figures");
    if (all.empty() || all.size() > kMostFigures)
        fields.fault("figures", fmt::format("there must be 1 to {} of them", kMostFigures));
    std::vector<Figure> figures;
    for (size_t i = 0; i < all.size() && i < kMostFigures; ++i)
        figures.push_back(read_figure(faults, all[i], fmt::format("figures[{}]", i)));
    GODWIT_RETURN_IF_ERROR(faults.status());
    return figures;
}

absl::StatusOr<std::string> fill_in(const std::string& text, double x) {
    std::string filled;
    for (size_t at = 0; at < text.size();) {
        const size_t open = text.find('{', at);
        filled += text.substr(at, open - at);
        if (open == std::string::npos) break;
        const size_t close = text.find('}', open);
        const std::string inside =
            close == std::string::npos ? "" : text.substr(open + 1, close - open - 1);
        double by = 1;
        const bool scaled = inside.size() > 2 && (inside[1] == '*' || inside[1] == '/') &&
                            absl::SimpleAtod(inside.substr(2), &by) && std::isfinite(by) && by != 0;
        if (inside.empty() || inside[0] != 'x' || (inside.size() > 1 && !scaled))
            return absl::InvalidArgumentError(
                fmt::format("\"{}\" can't be filled in: write {{x}}, {{x*2}} or {{x/2}}", text));
        filled +=
            fmt::format("{:.10g}", inside[inside.size() > 1 ? 1 : 0] == '/' ? x / by : x * by);
        at = close + 1;
    }
    return filled;
}

std::string figure_csv(const Figure& figure, const std::vector<PlotSeries>& found) {
    std::string text = "x";
    for (const PlotSeries& series : found) text += fmt::format(",\"{}\"", series.label);
    text += "\n";
    for (size_t i = 0; i < figure.values.size(); ++i) {
        text += fmt::format("{:g}", figure.values[i]);
        for (const PlotSeries& series : found)
            text += i < series.points.size() ? fmt::format(",{:.6g}", series.points[i].y) : ",";
        text += "\n";
    }
    return text;
}

}  // namespace godwit
