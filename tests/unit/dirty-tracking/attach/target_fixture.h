// Starting attach_target, and attaching to its one working thread.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "dirty-tracking/attach/attach.h"
#include "tests/unit/dirty-tracking/process/child_program.h"

namespace godwit {

inline std::string why_no_attach() {
    const auto userfaultfd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC));
    if (userfaultfd < 0) return "this user may not make a userfaultfd: needs root";
    ::close(userfaultfd);
    return "";
}

struct Target {
    std::unique_ptr<ChildProgram> program;
    pid_t worker = 0;

    // Null program: it can't run here (KVM).
    static Target start(const std::string& mode) {
        Target target;
        auto program = ChildProgram::start({GODWIT_ATTACH_TARGET, mode});
        EXPECT_TRUE(program.ok());
        if (!program.ok() || (*program)->read_line() != "ready") return target;
        target.program = *std::move(program);
        target.worker = std::stoi(target.program->ask("worker"));
        return target;
    }
    absl::StatusOr<Attachment> attach(const AttachOptions& options = {}) const {
        return attach_userfaultfd(program->pid(), other_threads(program->pid(), worker), options);
    }
    std::string ask(const std::string& line) const { return program->ask(line); }
};

}  // namespace godwit
