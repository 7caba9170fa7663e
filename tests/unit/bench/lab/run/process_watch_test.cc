#include "bench/lab/run/process_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/lab/child.h"

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
    EXPECT_THAT(metrics, ::testing::Contains(::testing::Key("cpu_s.sleep")));
}

}  // namespace
}  // namespace godwit
