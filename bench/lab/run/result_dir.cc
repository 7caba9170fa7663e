#include "bench/lab/run/result_dir.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "bench/lab/report/html_report.h"
#include "bench/lab/report/results.h"
#include "bench/lab/report/text_report.h"

namespace godwit {
namespace {

namespace fs = std::filesystem;

std::string runs_of(const std::string& directory) { return directory + "/" + kRunsFile; }

absl::StatusOr<std::string> read_text(const std::string& path) {
    std::ifstream in(path);
    if (!in)
        return absl::NotFoundError(fmt::format(
            "there is no {}: --resume wants the directory of an interrupted run", path));
    return std::string{std::istreambuf_iterator<char>(in), {}};
}

absl::Status write_text(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::trunc);
    out << text;
    out.close();
    return out ? absl::OkStatus() : absl::UnavailableError(fmt::format("Cannot write {}", path));
}

}  // namespace

absl::StatusOr<JsonLines> create_results(const std::string& directory) {
    std::error_code error;
    if (fs::exists(runs_of(directory), error))
        return absl::AlreadyExistsError(fmt::format(
            "{} has results already: --resume {} goes on with them", directory, directory));
    fs::create_directories(directory, error);
    return JsonLines::open(runs_of(directory));
}

absl::StatusOr<JsonLines> continue_results(const std::string& directory) {
    GODWIT_ASSIGN_OR_RETURN(std::string text, read_text(runs_of(directory)));
    std::error_code error;
    fs::resize_file(runs_of(directory), text.rfind('\n') + 1, error);
    return JsonLines::open_to_append(runs_of(directory));
}

absl::StatusOr<Interrupted> read_interrupted(const std::string& directory) {
    GODWIT_ASSIGN_OR_RETURN(const std::string text, read_text(runs_of(directory)));
    Interrupted interrupted;
    size_t begin = 0;
    for (size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
        const auto line = nlohmann::json::parse(text.substr(begin, end - begin), nullptr, false);
        if (!line.is_object()) continue;
        const std::string kind = line.value("kind", "");
        if (kind == "setting" && interrupted.setting.is_null()) interrupted.setting = line;
        if (kind == "run" && line.value("repeat", -1) >= 0)
            interrupted.done.emplace(line.value("scenario", ""), line.value("row", ""),
                                     line.value("repeat", 0));
    }
    if (interrupted.setting.is_null())
        return absl::InvalidArgumentError(
            fmt::format("{} has no line of the setting: start anew", runs_of(directory)));
    return interrupted;
}

absl::Status check_same_setting(const nlohmann::json& first, const nlohmann::json& now) {
    for (const auto& [key, what] :
         {std::pair{"git", "Godwit"}, {"qemu", "QEMU"}, {"kernel", "the kernel"}}) {
        const std::string was = first.value(key, "unknown");
        const std::string is = now.value(key, "unknown");
        if (was != is)
            return absl::FailedPreconditionError(
                fmt::format("these results cannot be gone on with: {} was {} when they began, and "
                            "is {}; start anew with another --out",
                            what, was, is));
    }
    return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> write_reports(const std::string& directory,
                                                       const nlohmann::json& data,
                                                       const std::string& assets,
                                                       std::string& complaint) {
    std::vector<std::string> paths;
    const auto write = [&](const char* name, const std::string& text) {
        paths.push_back(directory + "/" + name);
        return write_text(paths.back(), text);
    };
    GODWIT_RETURN_IF_ERROR(write("report.json", data.dump(1)));
    GODWIT_RETURN_IF_ERROR(write("report.md", markdown_report(data)));
    GODWIT_RETURN_IF_ERROR(write("report.csv", csv_report(data)));
    const auto page = html_report(data, assets);
    if (page.ok())
        GODWIT_RETURN_IF_ERROR(write("report.html", *page));
    else
        complaint = std::string(page.status().message());
    return paths;
}

}  // namespace godwit
