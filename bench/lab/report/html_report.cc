#include "bench/lab/report/html_report.h"

#include <fmt/format.h>

#include <array>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

namespace godwit {
namespace {

absl::StatusOr<std::string> read_asset(const std::string& assets, const std::string& name) {
    std::ifstream in(assets + "/" + name);
    if (!in)
        return absl::NotFoundError(
            fmt::format("there is no {}/{}: ./dev build makes it, with npm for the chart library",
                        assets, name));
    return std::string{std::istreambuf_iterator<char>(in), {}};
}

absl::Status insert(std::string& page, std::string_view mark, const std::string& text) {
    const size_t at = page.find(mark);
    if (at == std::string::npos)
        return absl::InternalError(fmt::format("page.html has no {}", mark));
    page.replace(at, mark.size(), text);
    return absl::OkStatus();
}

}  // namespace

std::string script_json(const nlohmann::json& data) {
    // JSON knows "<" by its number too.
    std::string text;
    for (const char c : data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
        text += c == '<' ? std::string("\\u003c") : std::string(1, c);
    return text;
}

absl::StatusOr<std::string> html_report(const nlohmann::json& data, const std::string& assets) {
    GODWIT_ASSIGN_OR_RETURN(std::string page, read_asset(assets, "page.html"));
    constexpr std::array<std::pair<const char*, const char*>, 3> kParts{
        {{"/*STYLE*/", "page.css"}, {"/*CHARTS*/", "echarts.min.js"}, {"/*SCRIPT*/", "page.js"}}};
    for (const auto& [mark, name] : kParts) {
        GODWIT_ASSIGN_OR_RETURN(const std::string text, read_asset(assets, name));
        GODWIT_RETURN_IF_ERROR(insert(page, mark, text));
    }
    GODWIT_RETURN_IF_ERROR(insert(page, "/*DATA*/", script_json(data)));
    return page;
}

}  // namespace godwit
