// The report as text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace godwit {

// Both of report_data().
// Tables of medians with quartiles, ratios and targets; what it was measured on.
std::string markdown_report(const nlohmann::json& data);
// A line for each scenario, row and metric:
// scenario,row,metric,n,median,q1,q3,min,max,ratio,p,delta.
std::string csv_report(const nlohmann::json& data);
// Only the targets, for a terminal; empty where there are none.
std::string target_table(const nlohmann::json& data);

}  // namespace godwit
