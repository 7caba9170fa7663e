#include "engine/source/kept_ram.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/engine/handover/scratch_directory.h"

namespace godwit {
namespace {

// RAM files of a QEMU, in a directory of the test.
class KeptRam : public ::testing::Test {
  protected:
    KeptRam() {
        record_.set_migration_id("m-1");
        for (const char* name : {"ram0", "ram1"}) {
            const std::string path = directory_.path() + "/" + name;
            std::ofstream(path) << name;
            std::filesystem::resize_file(path, 2 * kChunkBytes);
            auto block = open_ram_block(name, path, Backing::kTmpfs4k);
            EXPECT_TRUE(block.ok()) << block.status();
            blocks_.push_back(*std::move(block));
        }
    }
    void keep() {
        plan_kept_ram(blocks_, record_);
        const absl::Status linked = link_kept_ram(blocks_, record_);
        ASSERT_TRUE(linked.ok()) << linked;
    }
    [[nodiscard]] size_t file_count() const {
        size_t count = 0;
        for ([[maybe_unused]] const auto& file :
             std::filesystem::directory_iterator(directory_.path()))
            ++count;
        return count;
    }

    testing::ScratchDirectory directory_;
    std::vector<RamBlock> blocks_;
    v1::JournalRecord record_;
};

TEST_F(KeptRam, IsPlannedBesideTheFilesWithNothingTouched) {
    plan_kept_ram(blocks_, record_);
    ASSERT_EQ(record_.kept_ram_size(), 2);
    EXPECT_EQ(record_.kept_ram(0).name(), "ram0");
    EXPECT_EQ(record_.kept_ram(0).path(), directory_.path() + "/ram0.kept-m-1");
    EXPECT_EQ(record_.kept_ram(1).size_bytes(), 2 * kChunkBytes);
    EXPECT_EQ(file_count(), 2U);
    plan_kept_ram(blocks_, record_);
    EXPECT_EQ(record_.kept_ram_size(), 2) << "planned twice";
}

TEST_F(KeptRam, OutlivesTheFilesOfQemu) {
    ASSERT_NO_FATAL_FAILURE(keep());
    const ino_t inode = blocks_[0].inode;
    for (const RamBlock& block : blocks_) ::unlink(block.path.c_str());
    blocks_.clear();
    const auto opened = open_kept_ram(record_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_EQ(opened->size(), 2U);
    EXPECT_EQ(opened->front().name, "ram0");
    EXPECT_EQ(opened->front().backing, Backing::kTmpfs4k);
    EXPECT_EQ(opened->front().inode, inode);
    std::string content(4, '.');
    EXPECT_TRUE(read_fully(opened->back().file.get(), content.data(), 4, 0).ok());
    EXPECT_EQ(content, "ram1");
}

TEST_F(KeptRam, IsGoneWhenItIsReleasedAndQemusFilesAreNot) {
    ASSERT_NO_FATAL_FAILURE(keep());
    EXPECT_EQ(file_count(), 4U);
    EXPECT_TRUE(release_kept_ram(record_).ok());
    EXPECT_EQ(file_count(), 2U);
    EXPECT_TRUE(std::filesystem::exists(blocks_[0].path));
    EXPECT_EQ(record_.kept_ram_size(), 0);
    EXPECT_TRUE(release_kept_ram(record_).ok()) << "released twice";
}

// What an agent finds that was started after a crash between two steps: the journal's record, and
// some of the links.
TEST_F(KeptRam, IsReleasedByARestartedAgentHoweverFarItCame) {
    for (int links = 0; links <= 2; ++links) {
        plan_kept_ram(blocks_, record_);
        for (int i = 0; i < links; ++i)
            ASSERT_EQ(::link(blocks_[static_cast<size_t>(i)].path.c_str(),
                             record_.kept_ram(i).path().c_str()),
                      0);
        v1::JournalRecord read;
        ASSERT_TRUE(read.ParseFromString(record_.SerializeAsString()));
        EXPECT_EQ(open_kept_ram(read).ok(), links == 2) << links;
        EXPECT_TRUE(release_kept_ram(read).ok()) << links;
        EXPECT_EQ(file_count(), 2U) << links;
    }
}

// Crashed in the middle of the release.
TEST_F(KeptRam, IsReleasedWhenSomeOfItIsGoneAlready) {
    ASSERT_NO_FATAL_FAILURE(keep());
    ::unlink(record_.kept_ram(0).path().c_str());
    EXPECT_EQ(open_kept_ram(record_).status().code(), absl::StatusCode::kNotFound);
    EXPECT_TRUE(release_kept_ram(record_).ok());
    EXPECT_EQ(file_count(), 2U);
}

TEST_F(KeptRam, NeverTakesAnotherFileForALink) {
    plan_kept_ram(blocks_, record_);
    std::ofstream(record_.kept_ram(1).path()) << "somebody's";
    const absl::Status status = link_kept_ram(blocks_, record_);
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message().find("ram1.kept-m-1"), std::string::npos) << status;
}

TEST_F(KeptRam, IsNotOpenedWhereTheJournalAndTheFilesDisagree) {
    EXPECT_EQ(open_kept_ram(record_).status().code(), absl::StatusCode::kNotFound)
        << "nothing was kept";
    ASSERT_NO_FATAL_FAILURE(keep());
    v1::JournalRecord other = record_;
    other.mutable_kept_ram(1)->set_size_bytes(kChunkBytes);
    EXPECT_EQ(open_kept_ram(other).status().code(), absl::StatusCode::kDataLoss);
    other = record_;
    other.mutable_kept_ram(0)->set_backing(77);
    EXPECT_EQ(open_kept_ram(other).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(KeptRam, ThatCannotBeOpenedNowIsNotLost) {
    EXPECT_TRUE(kept_ram_is_lost(open_kept_ram(record_).status())) << "nothing was kept";
    ASSERT_NO_FATAL_FAILURE(keep());
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    rlimit none = before;
    none.rlim_cur = 0;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    const absl::Status status = open_kept_ram(record_).status();
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(kept_ram_is_lost(status)) << status;
    EXPECT_TRUE(open_kept_ram(record_).ok());
}

// Somebody removed a link, and QEMU stands.
TEST_F(KeptRam, IsTakenFromQemuAndLinkedAgainWhereALinkIsLost) {
    ASSERT_NO_FATAL_FAILURE(keep());
    ::unlink(record_.kept_ram(1).path().c_str());
    const auto opened = open_ram_of_qemu(blocks_, record_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_TRUE(opened->kept.ok()) << opened->kept;
    ASSERT_EQ(opened->blocks.size(), 2U);
    EXPECT_EQ(opened->blocks.back().name, "ram1");
    std::string content(4, '.');
    for (const RamBlock& block : blocks_) ::unlink(block.path.c_str());
    blocks_.clear();
    EXPECT_TRUE(read_fully(opened->blocks.back().file.get(), content.data(), 4, 0).ok());
    EXPECT_EQ(content, "ram1");
    EXPECT_TRUE(open_kept_ram(record_).ok()) << "the next agent finds it no more";
}

TEST_F(KeptRam, IsTakenFromAQemuWhoseFileHasNoNameAnyMore) {
    ASSERT_NO_FATAL_FAILURE(keep());
    ::unlink(record_.kept_ram(1).path().c_str());
    ::unlink(blocks_[1].path.c_str());
    const auto opened = open_ram_of_qemu(blocks_, record_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_FALSE(opened->kept.ok()) << "that QEMU may not be ended";
    std::string content(4, '.');
    EXPECT_TRUE(read_fully(opened->blocks.back().file.get(), content.data(), 4, 0).ok());
    EXPECT_EQ(content, "ram1");
    EXPECT_FALSE(open_kept_ram(record_).ok());
}

// A file, or a folder: neither is the guest's memory.
TEST_F(KeptRam, IsWithQemuAloneWhereSomethingElseHasItsName) {
    ASSERT_NO_FATAL_FAILURE(keep());
    const std::string path = record_.kept_ram(1).path();
    ::unlink(path.c_str());
    std::ofstream(path) << "somebody's";
    auto opened = open_ram_of_qemu(blocks_, record_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_NE(opened->kept.message().find(path), std::string::npos) << opened->kept;
    ::unlink(path.c_str());
    std::filesystem::create_directory(path);
    opened = open_ram_of_qemu(blocks_, record_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_FALSE(opened->kept.ok());
}

TEST_F(KeptRam, IsTakenFromNoQemuThatHasOtherMemory) {
    ASSERT_NO_FATAL_FAILURE(keep());
    v1::JournalRecord other = record_;
    other.mutable_kept_ram(1)->set_name("ram7");
    EXPECT_EQ(open_ram_of_qemu(blocks_, other).status().code(), absl::StatusCode::kDataLoss);
    other = record_;
    other.mutable_kept_ram(1)->set_size_bytes(kChunkBytes);
    EXPECT_EQ(open_ram_of_qemu(blocks_, other).status().code(), absl::StatusCode::kDataLoss);
    other = record_;
    other.mutable_kept_ram()->RemoveLast();
    EXPECT_EQ(open_ram_of_qemu(blocks_, other).status().code(), absl::StatusCode::kDataLoss);
}

// A directory where a link should be: the others are removed all the same.
TEST_F(KeptRam, SaysWhatItCouldNotRemove) {
    plan_kept_ram(blocks_, record_);
    std::filesystem::create_directory(record_.kept_ram(0).path());
    ASSERT_EQ(::link(blocks_[1].path.c_str(), record_.kept_ram(1).path().c_str()), 0);
    const absl::Status status = release_kept_ram(record_);
    EXPECT_NE(status.message().find("ram0.kept-m-1"), std::string::npos) << status;
    EXPECT_EQ(file_count(), 3U);
}

}  // namespace
}  // namespace godwit
