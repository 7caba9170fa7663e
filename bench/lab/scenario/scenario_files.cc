#include "bench/lab/scenario/scenario_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

namespace godwit {
namespace {

namespace fs = std::filesystem;

bool has_set(const Scenario& scenario, const std::string& set) {
    const auto in = [&](const char* name) {
        return std::find(scenario.sets.begin(), scenario.sets.end(), name) != scenario.sets.end();
    };
    return set == "full" ? !in("smoke") : in(set.c_str());
}

bool is_named(const Scenario& scenario, const std::string& word) {
    return scenario.name == word || scenario.name.starts_with(word + "/");
}

}  // namespace

absl::StatusOr<std::vector<Scenario>> load_scenarios(const std::string& directory) {
    std::vector<std::string> files;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error))
        if (entry.path().extension() == ".yaml") files.push_back(entry.path().string());
    if (files.empty())
        return absl::NotFoundError(fmt::format("there are no scenarios (*.yaml) in {}", directory));
    std::sort(files.begin(), files.end());
    std::vector<Scenario> all;
    std::set<std::string> names;
    for (const std::string& path : files) {
        std::ifstream in(path);
        const std::string text{std::istreambuf_iterator<char>(in), {}};
        GODWIT_ASSIGN_OR_RETURN(std::vector<Scenario> some, parse_scenarios(text, path));
        for (Scenario& one : some) {
            if (!names.insert(one.name).second)
                return absl::InvalidArgumentError(
                    fmt::format("{}: there is another scenario \"{}\"", path, one.name));
            all.push_back(std::move(one));
        }
    }
    return all;
}

absl::StatusOr<std::vector<Scenario>> choose(const std::vector<Scenario>& all,
                                             const std::vector<std::string>& words) {
    std::vector<bool> chosen(all.size(), false);
    for (const std::string& word : words) {
        bool found = false;
        for (size_t i = 0; i < all.size(); ++i)
            if (has_set(all[i], word) || is_named(all[i], word)) chosen[i] = found = true;
        if (found) continue;
        std::string names;
        for (const Scenario& one : all) names += "\n  " + one.name;
        return absl::InvalidArgumentError(fmt::format(
            "\"{}\" is no set (smoke, standard, full) and no scenario; there are:{}", word, names));
    }
    std::vector<Scenario> some;
    for (size_t i = 0; i < all.size(); ++i)
        if (chosen[i]) some.push_back(all[i]);
    return some;
}

absl::StatusOr<std::vector<Scenario>> filter(std::vector<Scenario> scenarios,
                                             const std::string& expression) {
    if (expression.empty()) return scenarios;
    std::regex pattern;
    try {
        pattern = std::regex(expression);
    } catch (const std::regex_error& error) {
        return absl::InvalidArgumentError(
            fmt::format("--filter \"{}\" is no regular expression: {}", expression, error.what()));
    }
    for (Scenario& scenario : scenarios)
        std::erase_if(scenario.rows, [&](const Row& row) {
            return !std::regex_search(scenario.name + ": " + row.label, pattern);
        });
    std::erase_if(scenarios, [](const Scenario& scenario) { return scenario.rows.empty(); });
    if (scenarios.empty())
        return absl::InvalidArgumentError(fmt::format(
            "--filter \"{}\" leaves nothing; godwit-lab --list says what there is", expression));
    return scenarios;
}

}  // namespace godwit
