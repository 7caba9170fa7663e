#include "engine/guest/qemu/log_trim.h"

#include <fmt/format.h>
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
    ~LogTrim() override { ::unlink(path_.c_str()); }
    void append(size_t lines) const {
        std::ofstream log(path_, std::ios::app);
        for (size_t i = 0; i < lines; ++i) log << "0123456789abcde\n";
    }
    [[nodiscard]] std::string content() const {
        std::ifstream log(path_);
        return {std::istreambuf_iterator<char>(log), {}};
    }
    // On the file system of the build, which mostly can cut from the front. Each test is a process
    // of its own, and they run at the same time.
    const std::string path_ = fmt::format("godwit-log-trim-test-{}.log", ::getpid());
};

TEST_F(LogTrim, LeavesAShortLogAlone) {
    append(1000);
    trim_log(path_);
    EXPECT_EQ(content().size(), 16'000U);
}

TEST_F(LogTrim, CutsALongLogDownAndTheWriterGoesOnBehindIt) {
    std::ofstream writer(path_, std::ios::app);
    append((kMaxLogBytes + 4096) / 16);
    writer << "the last line\n" << std::flush;
    trim_log(path_);
    EXPECT_LE(std::filesystem::file_size(path_), kKeptLogBytes + 65536);
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
