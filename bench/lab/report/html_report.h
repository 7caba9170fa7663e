// The report as one page that needs nothing else: style, script, chart library and data are in it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/base/status.h"

namespace godwit {

// `assets` has page.html, page.css, page.js and echarts.min.js. Error: NotFound, which says how the
// missing one is made.
absl::StatusOr<std::string> html_report(const nlohmann::json& data, const std::string& assets);

// The data as it may stand within <script>: no "</", and no "<!--".
std::string script_json(const nlohmann::json& data);

}  // namespace godwit
