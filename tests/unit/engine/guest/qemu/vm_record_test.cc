#include "engine/guest/qemu/vm_record.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "engine/base/units.h"

namespace godwit {
namespace {

class VmRecordTest : public testing::Test {
  protected:
    void SetUp() override { ASSERT_NE(::mkdtemp(directory_.data()), nullptr); }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    std::string directory_ = "/tmp/godwit-record-XXXXXX";
};

TEST_F(VmRecordTest, WhatIsWrittenIsRead) {
    VmRecord record{.process = {.pid = 42, .start_time = 1234567890123},
                    .incoming = true,
                    .ram_files = {"/a", "/b,c"}};
    record.spec.set_name("demo");
    record.spec.set_memory_bytes(Bytes{1} << 40);
    record.spec.set_append("\"quoted\" and \\");
    ASSERT_TRUE(write_record(record, directory_ + "/vm.json").ok());
    const auto read = read_record(directory_ + "/vm.json");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->process, record.process);
    EXPECT_EQ(read->incoming, true);
    EXPECT_EQ(read->ram_files, record.ram_files);
    EXPECT_EQ(read->spec.SerializeAsString(), record.spec.SerializeAsString());
}

TEST_F(VmRecordTest, ADamagedRecordIsDataLoss) {
    const std::string path = directory_ + "/vm.json";
    for (const char* text :
         {"", "{", "[]", "{}", R"({"spec": {"nme": 1}, "pid": 1, "start_time": 1})",
          R"({"spec": {}, "pid": "x", "start_time": 1, "incoming": false, "ram_files": []})"}) {
        std::ofstream(path) << text;
        EXPECT_EQ(read_record(path).status().code(), absl::StatusCode::kDataLoss) << text;
    }
    EXPECT_EQ(read_record(directory_ + "/none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(VmRecordTest, RemovingTwiceIsNoError) {
    const VmPaths paths = vm_paths(directory_, "demo");
    std::filesystem::create_directories(paths.directory);
    std::ofstream(paths.serial_log()) << "x";
    std::ofstream(directory_ + "/ram0") << "x";
    EXPECT_TRUE(remove_vm_files(paths, {directory_ + "/ram0"}).ok());
    EXPECT_TRUE(remove_vm_files(paths, {directory_ + "/ram0"}).ok());
    EXPECT_FALSE(std::filesystem::exists(paths.directory));
    EXPECT_FALSE(std::filesystem::exists(directory_ + "/ram0"));
}

TEST_F(VmRecordTest, LastWordsAreTheEndOfTheLogOnOneLine) {
    const std::string path = directory_ + "/qemu.log";
    EXPECT_EQ(last_words(path), "");
    std::ofstream(path) << std::string(5000, 'x') << "\nqemu: no\nqemu: really\n";
    const std::string words = last_words(path);
    EXPECT_LT(words.size(), 1100U);
    EXPECT_EQ(words.substr(words.size() - 24), "; qemu: no; qemu: really");
}

}  // namespace
}  // namespace godwit
