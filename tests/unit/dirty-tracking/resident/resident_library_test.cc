// What the library is made of.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>
#include <sstream>
#include <string>

#include "tests/unit/dirty-tracking/resident/resident_target.h"

namespace godwit {
namespace {

std::string output_of(const std::string& command) {
    FILE* program = ::popen(command.c_str(), "re");
    std::string text;
    for (int character = 0; (character = std::fgetc(program)) != EOF;)
        text.push_back(static_cast<char>(character));
    ::pclose(program);
    return text;
}

TEST(ResidentLibrary, ExportsOnlyWhatItStandsInFrontOf) {
    std::istringstream lines(
        output_of(std::string("nm -D --defined-only ") + GODWIT_RESIDENT_LIBRARY));
    std::set<std::string> names;
    for (std::string address, kind, name; lines >> address >> kind >> name;) names.insert(name);
    if (names.empty()) GTEST_SKIP() << "no nm here";
    EXPECT_EQ(names,
              (std::set<std::string>{"fallocate", "fallocate64", "ioctl", "madvise", "sigaction"}));
}

TEST(ResidentLibrary, NeedsOnlyTheCLibrary) {
    std::istringstream lines(
        output_of(std::string("readelf -d ") + GODWIT_RESIDENT_LIBRARY + " | grep NEEDED"));
    std::set<std::string> libraries;
    for (std::string line; std::getline(lines, line);)
        libraries.insert(line.substr(line.find('[') + 1, line.find(']') - line.find('[') - 1));
    if (libraries.empty()) GTEST_SKIP() << "no readelf here";
    EXPECT_EQ(libraries, std::set<std::string>{"libc.so.6"});
}

// malloc in a process that is being forked, or out of memory, is not ours to call.
TEST(ResidentLibrary, UsesNoMalloc) {
    const std::string names =
        output_of(std::string("nm -D --undefined-only ") + GODWIT_RESIDENT_LIBRARY);
    if (names.empty()) GTEST_SKIP() << "no nm here";
    for (const char* name : {"malloc", "calloc", "realloc", "_Znwm", "fopen", "opendir"})
        EXPECT_EQ(names.find(std::string(" ") + name), std::string::npos) << name;
}

}  // namespace
}  // namespace godwit
