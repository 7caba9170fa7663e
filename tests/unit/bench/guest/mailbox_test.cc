#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "bench/guest/blackout_sampler.h"
#include "bench/guest/disk_format.h"
#include "bench/guest/disk_image.h"
#include "bench/guest/mailbox_reader.h"
#include "bench/guest/page_format.h"
#include "engine/base/mapping.h"
#include "engine/base/ram_block.h"

namespace godwit {
namespace {

// A file that looks like the RAM of a guest whose mailbox this test writes.
class FakeRam {
  public:
    FakeRam() : file_(::memfd_create("fake-ram", MFD_CLOEXEC)) {
        EXPECT_EQ(::ftruncate(file_.get(), kMailboxAddress + 4 * kGuestPageBytes), 0);
        path_ = "/proc/self/fd/" + std::to_string(file_.get());
    }
    void put(const Mailbox& mailbox) {
        ASSERT_TRUE(write_fully(file_.get(), &mailbox, sizeof mailbox, kMailboxAddress).ok());
    }
    void put_tick(uint64_t tick) {
        ASSERT_TRUE(
            write_fully(file_.get(), &tick, sizeof tick, kMailboxAddress + offsetof(Mailbox, vcpus))
                .ok());
    }
    [[nodiscard]] int fd() const { return file_.get(); }
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    UniqueFd file_;
    std::string path_;
};

TEST(MailboxReader, ReadsWhatTheGuestWrote) {
    FakeRam ram;
    Mailbox written{};
    written.magic = kMailboxMagic;
    written.version = kMailboxVersion;
    written.vcpus[3].tick = 42;
    written.disk.errors = 7;
    ram.put(written);
    const auto reader = MailboxReader::open(ram.path());
    ASSERT_TRUE(reader.ok()) << reader.status();
    const auto read = reader->read();
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->vcpus[3].tick, 42);
    EXPECT_EQ(read->disk.errors, 7);
}

TEST(MailboxReader, SaysThatThereIsNoMailboxInAnEmptyFile) {
    FakeRam ram;
    const auto reader = MailboxReader::open(ram.path());
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(reader->read().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(MailboxReader, RefusesAMailboxOfAnotherVersion) {
    FakeRam ram;
    Mailbox written{};
    written.magic = kMailboxMagic;
    written.version = kMailboxVersion + 1;
    ram.put(written);
    const auto reader = MailboxReader::open(ram.path());
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(reader->read().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(MailboxReader, FailsOnAFileThatEndsBeforeTheMailbox) {
    FakeRam ram;
    ASSERT_EQ(::ftruncate(ram.fd(), kMailboxAddress), 0);
    const auto reader = MailboxReader::open(ram.path());
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(reader->read().status().code(), absl::StatusCode::kOutOfRange);
}

TEST(MailboxReader, FailsToOpenAFileThatDoesNotExist) {
    EXPECT_EQ(MailboxReader::open("/nonexistent/ram").status().code(), absl::StatusCode::kNotFound);
}

TEST(MailboxLayout, FindsPagesAboveFourGiBBehindLowRam) {
    Mailbox mailbox{};
    mailbox.low_ram_end = uint64_t{2} << 30;
    mailbox.region_count = 2;
    mailbox.regions[0] = {0x300000, 10};
    mailbox.regions[1] = {uint64_t{4} << 30, 5};
    EXPECT_EQ(ws_page_address(mailbox, 9), 0x309000);
    EXPECT_EQ(ws_page_address(mailbox, 11), (uint64_t{4} << 30) + 0x1000);
    EXPECT_EQ(ws_page_address(mailbox, 15), kNoPage);
    EXPECT_EQ(ram_file_offset(mailbox, 0x309000), 0x309000);
    EXPECT_EQ(ram_file_offset(mailbox, (uint64_t{4} << 30) + 0x1000), (uint64_t{2} << 30) + 0x1000);
}

TEST(PageFormat, TheSumsOfAChangedWordAreThoseOfTheWholePage) {
    uint64_t page[kWordsPerPage];
    for (unsigned i = 0; i < kWordsPerPage; ++i) page[i] = i * 0x9e3779b97f4a7c15;
    PageSums sums = sum_page(page);
    for (const unsigned word : {kTagWord, kCountWord, kHeaderWords, 300u, kWordsPerPage - 1}) {
        const uint64_t delta = 0x123456789 * (word + 1);
        page[word] += delta;
        sums.add(word, delta);
        EXPECT_EQ(sums, sum_page(page)) << "word " << word;
    }
}

TEST(PageFormat, TwoExchangedWordsChangeTheSums) {
    uint64_t page[kWordsPerPage] = {};
    page[10] = 1;
    const PageSums before = sum_page(page);
    std::swap(page[10], page[11]);
    EXPECT_NE(before, sum_page(page));
}

TEST(DiskImage, HoldsAHeaderAndTheSectorsThatItsSeedMakes) {
    FakeRam file;
    ASSERT_TRUE(make_disk_image(file.path(), 64 * kPageBytes, 77).ok());
    uint64_t words[kWordsPerSector];
    ASSERT_TRUE(read_fully(file.fd(), words, sizeof words, 0).ok());
    EXPECT_EQ(words[kDiskMagicWord], kDiskMagic);
    EXPECT_EQ(words[kDiskSeedWord], 77);
    EXPECT_EQ(words[kDiskSectorCountWord], 64 * kSectorsPerPage);
    ASSERT_TRUE(read_fully(file.fd(), words, sizeof words, 511 * kSectorBytes).ok());
    for (unsigned i = 0; i < kWordsPerSector; ++i) EXPECT_EQ(words[i], disk_word(77, 511, i));
}

TEST(DiskImage, RefusesASizeThatIsNoNumberOfPages) {
    EXPECT_EQ(make_disk_image("/dev/null", 3 * kPageBytes + 512, 1).code(),
              absl::StatusCode::kInvalidArgument);
}

// Ticks into `ram` from `first` on until `count` ticks have been written.
void tick(FakeRam& ram, uint64_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
        ram.put_tick(first + i);
        std::this_thread::yield();
    }
}

TEST(BlackoutSampler, ReportsAtLeastTheTimeInWhichNeitherSideTicked) {
    FakeRam source;
    source.put_tick(1);
    FakeRam destination;
    auto sampler = BlackoutSampler::start(
        {.source_path = source.path(), .destination_path = destination.path(), .realtime = false});
    ASSERT_TRUE(sampler.ok()) << sampler.status();
    tick(source, 1, 1000);
    // From here to the destination's first tick nothing ticks; a copy of an old mailbox is no tick.
    const auto begin = std::chrono::steady_clock::now();
    const auto stillness = std::chrono::milliseconds(30);
    while (std::chrono::steady_clock::now() < begin + stillness) destination.put_tick(500);
    tick(destination, 1001, 1000);
    const BlackoutReport report = sampler->stop();
    EXPECT_EQ(report.last_tick, 2000);
    EXPECT_GE(report.longest_ns + report.longest_sample_gap_ns,
              std::chrono::nanoseconds(stillness).count());
    EXPECT_GT(report.samples, 0);
}

TEST(BlackoutSampler, FollowsADestinationFileThatAppearsLater) {
    FakeRam source;
    source.put_tick(5);
    const std::string path = "/dev/shm/godwit-sampler-test-" + std::to_string(::getpid());
    auto sampler = BlackoutSampler::start(
        {.source_path = source.path(), .destination_path = path, .realtime = false});
    ASSERT_TRUE(sampler.ok()) << sampler.status();
    {
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        Mailbox mailbox{};
        mailbox.vcpus[2].tick = 9;
        ASSERT_TRUE(write_fully(file.get(), &mailbox, sizeof mailbox, kMailboxAddress).ok());
        ASSERT_EQ(::ftruncate(file.get(), kMailboxAddress + kGuestPageBytes), 0);
    }
    EXPECT_TRUE(sampler->wait_for_tick(9, std::chrono::seconds(10)));
    EXPECT_EQ(sampler->stop().last_tick, 9);
    ::unlink(path.c_str());
}

TEST(BlackoutSampler, CountsAStillnessThatLastsUntilItIsStopped) {
    FakeRam source;
    source.put_tick(5);
    auto sampler = BlackoutSampler::start({.source_path = source.path(), .realtime = false});
    ASSERT_TRUE(sampler.ok()) << sampler.status();
    ASSERT_TRUE(sampler->wait_for_tick(5, std::chrono::seconds(10)));
    const BlackoutReport report = sampler->stop();
    EXPECT_EQ(report.new_ticks, 1);
    EXPECT_GT(report.longest_ns, 0);
}

TEST(BlackoutSampler, ReportsNothingWhenNoGuestEverTicked) {
    auto sampler = BlackoutSampler::start(
        {.source_path = "/nonexistent/a", .destination_path = "/nonexistent/b", .realtime = false});
    ASSERT_TRUE(sampler.ok()) << sampler.status();
    const BlackoutReport report = sampler->stop();
    EXPECT_EQ(report.longest_ns, 0);
    EXPECT_EQ(report.last_tick, 0);
    EXPECT_FALSE(report.handover.has_value());
    EXPECT_TRUE(report.stalls.empty());
}

// Shows one tick after the other, a call each; then the last one for ever.
class ScriptedTicks : public TickSource {
  public:
    explicit ScriptedTicks(std::vector<uint64_t> ticks) : ticks_(std::move(ticks)) {}
    uint64_t read_tick(MonotonicTime) override {
        const uint64_t tick = ticks_[std::min(next_.load(), ticks_.size() - 1)];
        ++next_;
        return tick;
    }
    void wait_until_shown() const {
        while (next_.load() < ticks_.size()) std::this_thread::yield();
    }

  private:
    const std::vector<uint64_t> ticks_;
    std::atomic<size_t> next_ = 0;
};

TEST(BlackoutSampler, CountsEveryStillnessThatASampleFellInto) {
    const auto guest =
        std::make_shared<ScriptedTicks>(std::vector<uint64_t>{0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 6, 7});
    auto sampler = BlackoutSampler::start({.more = {guest}, .realtime = false});
    ASSERT_TRUE(sampler.ok()) << sampler.status();
    guest->wait_until_shown();
    const BlackoutReport report = sampler->stop();
    ASSERT_GE(report.stalls.size(), 2U);
    EXPECT_EQ(report.stalls[0].tick, 2);
    EXPECT_EQ(report.stalls[1].tick, 4);
    EXPECT_GT(report.stalls[0].length(), Duration::zero());
    EXPECT_EQ(report.first_tick, 1);
    EXPECT_EQ(report.last_tick, 7);
    EXPECT_FALSE(report.handover.has_value());
}

TEST(BlackoutSampler, TellsWhenTheGuestHasMoved) {
    const auto source = std::make_shared<ScriptedTicks>(std::vector<uint64_t>{1, 2, 3, 4, 4, 4, 4});
    const auto destination =
        std::make_shared<ScriptedTicks>(std::vector<uint64_t>{0, 2, 2, 4, 4, 5, 6});
    auto sampler = BlackoutSampler::start({.more = {source, destination}, .realtime = false});
    ASSERT_TRUE(sampler.ok()) << sampler.status();
    source->wait_until_shown();
    const BlackoutReport report = sampler->stop();
    ASSERT_TRUE(report.handover.has_value());
    EXPECT_EQ(report.handover->tick, 4);
    EXPECT_EQ(report.last_tick, 6);
}

TEST(ProcessTicks, ReadsTheMailboxInAProcessButMakesNoPage) {
    const auto ram = Mapping::anonymous(kChunkBytes);
    ASSERT_TRUE(ram.ok()) << ram.status();
    const auto address = reinterpret_cast<uint64_t>(ram->data());
    ProcessTicks ticks;
    EXPECT_EQ(ticks.read_tick({}), 0) << "nothing is shown yet";
    ASSERT_TRUE(ticks.show(::getpid(), address));
    EXPECT_EQ(ticks.read_tick({}), 0);
    unsigned char present = 1;
    ASSERT_EQ(::mincore(ram->data(), kPageBytes, &present), 0);
    EXPECT_EQ(present & 1, 0) << "looking made the page";
    Mailbox mailbox{};
    mailbox.vcpus[1].tick = 77;
    std::memcpy(ram->data(), &mailbox, sizeof mailbox);
    EXPECT_EQ(ticks.read_tick({}), 77);
}

TEST(ProcessTicks, AProcessThatIsNotThereShowsNothing) {
    ProcessTicks ticks;
    EXPECT_FALSE(ticks.show(-1, 0x1000));
    EXPECT_EQ(ticks.read_tick({}), 0);
}

TEST(DirectoryTicks, FollowsTheOnlyFileWithItsNameOnceItIsThere) {
    std::string directory = "/tmp/godwit-ticks-XXXXXX";
    ASSERT_NE(::mkdtemp(directory.data()), nullptr);
    DirectoryTicks ticks(directory, "vm-", "-ram0");
    EXPECT_EQ(ticks.read_tick(MonotonicTime{}), 0);
    const std::string path = directory + "/vm-12ab-ram0";
    {
        const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        Mailbox mailbox{};
        mailbox.vcpus[0].tick = 3;
        ASSERT_TRUE(write_fully(file.get(), &mailbox, sizeof mailbox, kMailboxAddress).ok());
    }
    EXPECT_EQ(ticks.read_tick(MonotonicTime{} + std::chrono::seconds(1)), 3);
    ::unlink(path.c_str());
    ::rmdir(directory.c_str());
}

}  // namespace
}  // namespace godwit
