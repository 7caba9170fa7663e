#include "engine/postcopy/postcopy_problems.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

namespace godwit {
namespace {

TEST(PostcopyProblems, NameTheSettingThatStopsAnOrdinaryUser) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
    int allowed = 1;
    std::ifstream("/proc/sys/vm/unprivileged_userfaultfd") >> allowed;
    if (allowed != 0) GTEST_SKIP() << "vm.unprivileged_userfaultfd is set";
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        constexpr uid_t kNobody = 65534;
        if (::setuid(kNobody) != 0) ::_exit(2);
        const auto problems = postcopy_problems();
        const bool named =
            !problems.empty() &&
            problems.front().find("vm.unprivileged_userfaultfd") != std::string::npos;
        ::_exit(named ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST(PostcopyProblems, AreSentences) {
    for (const std::string& problem : postcopy_problems()) EXPECT_GT(problem.size(), 10u);
}

}  // namespace
}  // namespace godwit
