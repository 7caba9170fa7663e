#include "transport/ring/ring_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <iostream>

#include "transport/ring/io_uring_ring.h"

namespace godwit {
namespace {

// From now on that system call fails in this process, as in a container that forbids it.
bool forbid(unsigned system_call, unsigned error_number) {
    std::array<sock_filter, 4> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, system_call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error_number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    }};
    const sock_fprog filter{.len = program.size(), .filter = program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// In a child process: says what was chosen, ends with 0 for io_uring and 1 for plain sockets.
[[noreturn]] void choose_without(unsigned system_call, unsigned error_number) {
    if (!forbid(system_call, error_number)) ::_exit(2);
    const RingChoice choice = choose_ring(true);
    std::cerr << choice.reason << std::endl;
    ::_exit(choice.kind == RingKind::kIoUring ? 0 : 1);
}

TEST(RingChoice, IsIoUringWhereItWorks) {
    if (const absl::Status works = IoUringRing::probe(); !works.ok()) GTEST_SKIP() << works;
    const RingChoice choice = choose_ring(true);
    EXPECT_EQ(choice.kind, RingKind::kIoUring);
    EXPECT_EQ(choice.reason, "");
}

TEST(RingChoice, IsPlainSocketsWhenAskedFor) {
    const RingChoice choice = choose_ring(false);
    EXPECT_EQ(choice.kind, RingKind::kSockets);
    EXPECT_EQ(choice.reason, "--no-io-uring");
}

TEST(RingChoiceDeathTest, IsPlainSocketsWhereIoUringIsForbidden) {
    EXPECT_EXIT(choose_without(SYS_io_uring_setup, EPERM), testing::ExitedWithCode(1),
                "seccomp filter.*EPERM");
}

TEST(RingChoiceDeathTest, IsPlainSocketsWhereTheKernelIsTooOld) {
    EXPECT_EXIT(choose_without(SYS_io_uring_setup, ENOSYS), testing::ExitedWithCode(1),
                "too old.*ENOSYS");
}

TEST(RingChoiceDeathTest, IsPlainSocketsWhereARingCanBeMadeAndNotUsed) {
    EXPECT_EXIT(choose_without(SYS_io_uring_enter, EPERM), testing::ExitedWithCode(1),
                "io_uring_enter");
}

TEST(RingChoiceDeathTest, IsPlainSocketsWhereNobodySaysWhatIoUringCanDo) {
    EXPECT_EXIT(choose_without(SYS_io_uring_register, EINVAL), testing::ExitedWithCode(1),
                "can't send and receive");
}

}  // namespace
}  // namespace godwit
