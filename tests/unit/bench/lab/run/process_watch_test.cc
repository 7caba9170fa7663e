#include "bench/lab/run/process_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/lab/child.h"
#include "engine/base/mapping.h"
#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

TEST(ProcessWatch, KnowsTheRoleOfAProcessByItsArguments) {
    EXPECT_EQ(role_of("/b/godwitd\n--listen\nx\n--state-dir\n/tmp/0/a\n--qemu\nq\n", true),
              "source-agent");
    EXPECT_EQ(role_of("/b/godwitd\n--state-dir\n/tmp/0/b\n", true), "destination-agent");
    EXPECT_EQ(role_of("/usr/bin/qemu-system-x86_64\n-name\nlab\n", true), "source-qemu");
    EXPECT_EQ(role_of("/usr/bin/qemu-system-x86_64\n-name\nlab\n", false), "destination-qemu");
    EXPECT_EQ(role_of("/b/godwit-guard\n", false), "guard");
    EXPECT_EQ(role_of("/b/godwit\nmigrate\n", false), "command");
    EXPECT_EQ(role_of("", false), "other");
}

TEST(ProcessWatch, ReadsFieldsInKib) {
    EXPECT_EQ(parse_kib_field("Name:\tx\nRssAnon:\t     120 kB\n", "RssAnon:"), Bytes{120} << 10);
    EXPECT_EQ(parse_kib_field("Name:\tx\n", "RssAnon:"), 0U);
}

TEST(ProcessWatch, SeesWhatItsProcessHasStarted) {
    const auto child = Child::start({"sleep", "100"});
    ASSERT_TRUE(child.ok()) << child.status();
    const auto watch = ProcessWatch::start();
    ASSERT_TRUE(watch.ok()) << watch.status();
    const Metrics metrics = (*watch)->stop();
    EXPECT_THAT(metrics, ::testing::Contains(::testing::Key("peak_memory_bytes")));
    // Under the name of what starts it, for its first moment.
    EXPECT_THAT(metrics, ::testing::Contains(::testing::Key(::testing::StartsWith("cpu_s."))));
}

// Neither what is free changes, nor how much is in use together with what was held.
TEST(ProcessWatch, CountsMemoryThatThisProcessHeldForOthers) {
    constexpr Bytes kSize = Bytes{128} << 20;
    const auto held = Mapping::anonymous(kSize);
    ASSERT_TRUE(held.ok()) << held.status();
    ASSERT_EQ(::madvise(held->data(), kSize, MADV_POPULATE_WRITE), 0);
    const UniqueFd file(::memfd_create("used", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
    const auto used = Mapping::map_shared(file.get(), kSize);
    ASSERT_TRUE(used.ok()) << used.status();

    const auto watch = ProcessWatch::start();
    ASSERT_TRUE(watch.ok()) << watch.status();
    ASSERT_EQ(::madvise(held->data(), kSize, MADV_DONTNEED), 0);
    ASSERT_EQ(::madvise(used->data(), kSize, MADV_POPULATE_WRITE), 0);
    EXPECT_GT((*watch)->stop()["peak_memory_bytes"], kSize / 2);
}

}  // namespace
}  // namespace godwit
