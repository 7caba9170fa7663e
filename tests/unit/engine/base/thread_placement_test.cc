#include "engine/base/thread_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

namespace godwit {
namespace {

using testing::HasSubstr;

// The first CPU that this process may use.
int first_cpu() {
    cpu_set_t set;
    EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &set)) ++cpu;
    return cpu;
}

int nice_of_this_thread() {
    errno = 0;
    return ::getpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()));
}

TEST(ThreadPlacement, PlacesTheThreadThatAsksAndNoOther) {
    const int before = nice_of_this_thread();
    std::jthread([cpu = first_cpu()] {
        ThreadPlacement{.cpus = {cpu}, .nice = 19}.apply();
        cpu_set_t set;
        ASSERT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
        EXPECT_EQ(CPU_COUNT(&set), 1);
        EXPECT_TRUE(CPU_ISSET(cpu, &set));
        EXPECT_EQ(nice_of_this_thread(), 19);
    }).join();
    EXPECT_EQ(nice_of_this_thread(), before);
}

TEST(ThreadPlacement, OfNothingLeavesAThreadAlone) {
    std::jthread([] {
        cpu_set_t before;
        cpu_set_t after;
        ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
        ThreadPlacement{}.apply();
        ASSERT_EQ(::sched_getaffinity(0, sizeof after, &after), 0);
        EXPECT_TRUE(CPU_EQUAL(&before, &after));
    }).join();
}

TEST(ParseCpus, TakesNumbersAndRangesOnceEach) {
    const std::string cpu = std::to_string(first_cpu());
    EXPECT_EQ(*parse_cpus(cpu), std::vector<int>{first_cpu()});
    EXPECT_EQ(*parse_cpus(cpu + "-" + cpu + "," + cpu), std::vector<int>{first_cpu()});
}

TEST(ParseCpus, NamesACpuThatDoesNotExist) {
    const absl::Status status = parse_cpus(std::to_string(first_cpu()) + ",16000").status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("there is no CPU 16000"));
}

TEST(ParseCpus, RefusesWhatIsNoList) {
    for (const char* wrong : {"", ",", "0,", "a", "-1", "3-1", "0-", "0-1-2", "1.5", "99999999999"})
        EXPECT_TRUE(absl::IsInvalidArgument(parse_cpus(wrong).status())) << wrong;
}

}  // namespace
}  // namespace godwit
