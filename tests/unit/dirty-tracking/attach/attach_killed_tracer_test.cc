// SIGKILL of the agent at every step of an attach: the target must go on as if nothing had been.
#include <sys/wait.h>

#include <csignal>

#include "tests/unit/dirty-tracking/attach/target_fixture.h"

namespace godwit {
namespace {

// Attaches in a process of its own, which kills itself after `last`.
void attach_and_die(const Target& target, AttachStep last) {
    const pid_t agent = ::fork();
    ASSERT_GE(agent, 0);
    if (agent == 0) {
        AttachOptions options;
        options.after_step = [last](AttachStep step) {
            if (step == last) ::kill(::getpid(), SIGKILL);
        };
        (void)target.attach(options);
        ::_exit(1);  // it did not come to the step
    }
    int status = 0;
    ASSERT_EQ(::waitpid(agent, &status, 0), agent);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the agent did not reach the step";
}

class AttachKilledTracer : public testing::TestWithParam<const char*> {};

TEST_P(AttachKilledTracer, TheTargetGoesOnWhateverTheLastStepWas) {
    if (const std::string reason = why_no_attach(); !reason.empty()) GTEST_SKIP() << reason;
    constexpr int kTimes = 8;
    const Target target = Target::start(GetParam());
    if (target.program == nullptr) GTEST_SKIP() << "there is no usable /dev/kvm";
    for (int i = 0; i < kTimes * kAttachStepCount; ++i) {
        const auto step = static_cast<AttachStep>(i % kAttachStepCount);
        ASSERT_NO_FATAL_FAILURE(attach_and_die(target, step)) << "step " << i % kAttachStepCount;
        ASSERT_EQ(target.ask("check"), "fine") << "step " << i % kAttachStepCount;
        // The next agent finds its way in, by the call or by the descriptor that is left.
        const auto next = target.attach();
        ASSERT_TRUE(next.ok()) << next.status();
        ASSERT_EQ(target.ask("check"), "fine");
        ASSERT_EQ(target.ask("close"), "closed");
    }
}

INSTANTIATE_TEST_SUITE_P(Modes, AttachKilledTracer,
                         testing::Values("futex", "ppoll", "pipe", "nanosleep", "compute", "kvm"),
                         [](const auto& mode) { return std::string(mode.param); });

}  // namespace
}  // namespace godwit
