#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "bench/lab/child.h"
#include "bench/lab/report/compare.h"
#include "bench/lab/run/commands.h"

namespace godwit {
namespace {

constexpr Duration kBuildLimit = std::chrono::hours(2);
// Enough that one of a hundred figures can be told from chance.
constexpr int kRepeats = 10;
constexpr int kSomethingFailed = 1;

bool is_results(const std::string& path) { return std::filesystem::exists(path); }

int say_changes(const std::vector<Change>& changes, const CompareOptions& options) {
    if (changes.empty())
        return complain(absl::NotFoundError("they have no row in common: nothing to compare"), 1);
    if (options.run.json)
        std::cout << changes_json(changes).dump(1) << std::endl;
    else
        std::cout << render_changes(changes, options.all) << std::flush;
    const bool worse = std::any_of(changes.begin(), changes.end(),
                                   [](const Change& one) { return one.verdict == "worse"; });
    return worse ? 1 : 0;
}

int compare_results(const CompareOptions& options) {
    const auto before = read_results(options.before);
    if (!before.ok()) return complain(before.status(), kUsage);
    const auto after = read_results(options.after);
    if (!after.ok()) return complain(after.status(), kUsage);
    return say_changes(compare(*before, *after, options.tolerance), options);
}

// The directory of its programs.
absl::StatusOr<std::string> build_revision(const std::string& revision) {
    std::fprintf(stderr, "building %s\n", revision.c_str());
    GODWIT_ASSIGN_OR_RETURN(
        Child child,
        Child::start({GODWIT_SOURCE_DIR "/bench/lab/run/build-revision.sh", revision}));
    GODWIT_ASSIGN_OR_RETURN(const int status, child.wait(Clock::system().now() + kBuildLimit, -1));
    std::string out = child.out();
    if (status != 0 || out.empty())
        return absl::FailedPreconditionError(
            fmt::format("{} cannot be built:\n{}", revision, child.err()));
    return out.substr(0, out.find('\n'));
}

int compare_revisions(CompareOptions options) {
    for (const std::string& revision : {options.before, options.after}) {
        const auto bin_dir = build_revision(revision);
        if (!bin_dir.ok()) return complain(bin_dir.status(), kUsage);
        options.run.builds.push_back(fmt::format("{}={}", revision, *bin_dir));
    }
    if (options.run.names.empty()) options.run.names = {"compare"};
    if (options.run.filter.empty()) options.run.filter = ": godwit";
    if (options.run.lab.repeats == 0) options.run.lab.repeats = kRepeats;
    // Runs that failed are part of what is compared.
    const int code = run_scenarios(options.run, true);
    if (code != 0 && code != kSomethingFailed) return code;
    const auto results = read_results(options.run.out);
    if (!results.ok()) return code != 0 ? code : complain(results.status(), 1);
    const int worse = say_changes(compare(only_build(*results, options.before),
                                          only_build(*results, options.after), options.tolerance),
                                  options);
    return std::max(code, worse);
}

}  // namespace

int compare_command(CompareOptions options) {
    if (is_results(options.before) != is_results(options.after))
        return complain(absl::InvalidArgumentError(fmt::format(
                            "one of {} and {} is there and the other is not: give two results, "
                            "or two git revisions",
                            options.before, options.after)),
                        kUsage);
    if (is_results(options.before)) return compare_results(options);
    if (options.before == options.after)
        return complain(absl::InvalidArgumentError("both revisions are the same"), kUsage);
    return compare_revisions(std::move(options));
}

}  // namespace godwit
