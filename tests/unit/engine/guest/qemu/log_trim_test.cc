#include "engine/guest/qemu/log_trim.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace godwit {
namespace {

class LogTrim : public testing::Test {
  protected:
    ~LogTrim() override { ::unlink(kPath); }
    static void append(size_t lines) {
        std::ofstream log(kPath, std::ios::app);
        for (size_t i = 0; i < lines; ++i) log << "0123456789abcde\n";
    }
    static std::string content() {
        std::ifstream log(kPath);
        return {std::istreambuf_iterator<char>(log), {}};
    }
    // On the file system of the build, which mostly can cut from the front.
    static constexpr const char* kPath = "godwit-log-trim-test.log";
};

TEST_F(LogTrim, LeavesAShortLogAlone) {
    append(1000);
    trim_log(kPath);
    EXPECT_EQ(content().size(), 16'000U);
}

TEST_F(LogTrim, CutsALongLogDownAndTheWriterGoesOnBehindIt) {
    std::ofstream writer(kPath, std::ios::app);
    append((kMaxLogBytes + 4096) / 16);
    writer << "the last line\n" << std::flush;
    trim_log(kPath);
    EXPECT_LE(std::filesystem::file_size(kPath), kKeptLogBytes + 65536);
    writer << "and on\n" << std::flush;
    const std::string text = content();
    EXPECT_EQ(text.substr(text.size() - 7), "and on\n");
    EXPECT_EQ(text.find('\0'), std::string::npos) << "no hole in front";
}

TEST_F(LogTrim, OfAFileThatIsNotThereDoesNothing) {
    trim_log("godwit-no-such-file.log");
    EXPECT_FALSE(std::filesystem::exists("godwit-no-such-file.log"));
}

}  // namespace
}  // namespace godwit
