#include "dirty-tracking/attach/return_frame.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cstring>

namespace godwit {
namespace {

ThreadState stopped_state(size_t vector_bytes) {
    ThreadState state;
    state.registers.rsp = 0x7fff'0000'1234;
    state.vector_state.resize(vector_bytes);
    return state;
}

TEST(ReturnFrame, LiesBelowTheRedZoneWithAlignedVectors) {
    ReturnFrame frame;
    const ThreadState state = stopped_state(832);
    ASSERT_TRUE(build_return_frame(state, 0, 0x1111, frame).ok());
    EXPECT_LE(frame.address + frame.bytes.size(), state.registers.rsp - 128);
    uint64_t way_back = 0;
    std::memcpy(&way_back, frame.bytes.data(), sizeof way_back);
    EXPECT_EQ(way_back, 0x1111u);
    EXPECT_EQ((frame.address + 8) % 16, 0u);
}

TEST(ReturnFrame, RefusesAVectorStateThatIsTooShortForItsHeader) {
    ReturnFrame frame;
    EXPECT_TRUE(absl::IsUnimplemented(build_return_frame(stopped_state(512), 0, 0x1111, frame)));
    ThreadState avx = stopped_state(576);
    avx.vector_state[512] = std::byte{7};  // says AVX, which lies behind the header
    EXPECT_TRUE(absl::IsUnimplemented(build_return_frame(avx, 0, 0x1111, frame)));
}

TEST(ReturnFrame, RestartsOnlyWhatTheKernelWouldRestart) {
    user_regs_struct registers{};
    registers.orig_rax = SYS_futex;
    for (const int64_t result : {-512, -513, -514, -516}) {
        registers.rax = static_cast<uint64_t>(result);
        EXPECT_TRUE(restarts_call(registers)) << result;
    }
    for (const int64_t result : {-4, 0, 7, -515}) {
        registers.rax = static_cast<uint64_t>(result);
        EXPECT_FALSE(restarts_call(registers)) << result;
    }
    registers.rax = static_cast<uint64_t>(int64_t{-512});
    registers.orig_rax = ~uint64_t{0};  // in no system call
    EXPECT_FALSE(restarts_call(registers));
}

}  // namespace
}  // namespace godwit
