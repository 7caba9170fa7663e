// A real QEMU, with and without its sandbox, is attached to, tracked and answers afterwards.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "dirty-tracking/attach/attach.h"
#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "tests/unit/dirty-tracking/process/child_program.h"
#include "tests/unit/dirty-tracking/process/private_mount.h"

namespace godwit {
namespace {

constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";

// QMP on stdin and stdout.
struct Qemu {
    std::unique_ptr<ChildProgram> program;

    static Qemu start(const std::string& accelerator, bool sandbox, const std::string& ram) {
        std::vector<std::string> arguments{
            kQemu,
            "-machine",
            "q35,memory-backend=ram",
            "-accel",
            accelerator,
            "-nodefaults",
            "-display",
            "none",
            "-m",
            "64M",
            "-name",
            "godwit-test,debug-threads=on",
            "-object",
            "memory-backend-file,id=ram,size=64M,share=on,align=2M,mem-path=" + ram,
            "-qmp",
            "stdio"};
        if (sandbox) arguments.insert(arguments.end(), {"-sandbox", "on"});
        Qemu qemu;
        auto program = ChildProgram::start(arguments);
        if (!program.ok() || (*program)->read_line().find("QMP") == std::string::npos) return qemu;
        qemu.program = *std::move(program);
        qemu.program->ask(R"({"execute": "qmp_capabilities"})");
        return qemu;
    }

    std::string status() const {
        std::string answer = program->ask(R"({"execute": "query-status"})");
        while (!answer.empty() && answer.find("\"status\"") == std::string::npos)
            answer = program->read_line();  // an event, or the answer to an earlier command
        return answer;
    }

    std::vector<pid_t> vcpus() const {
        std::vector<pid_t> found;
        for (const pid_t thread : other_threads(program->pid(), 0)) {
            std::ifstream comm("/proc/" + std::to_string(program->pid()) + "/task/" +
                               std::to_string(thread) + "/comm");
            std::string name;
            std::getline(comm, name);
            if (name.rfind("CPU ", 0) == 0) found.push_back(thread);
        }
        return found;
    }
};

struct Case {
    const char* accelerator;
    bool sandbox;
};

class AttachQemu : public testing::TestWithParam<Case> {};

TEST_P(AttachQemu, IsTrackedAndAnswersAfterwards) {
    if (::access(kQemu, X_OK) != 0) GTEST_SKIP() << "there is no " << kQemu;
    if (std::string(GetParam().accelerator) == "kvm" && ::access("/dev/kvm", R_OK | W_OK) != 0)
        GTEST_SKIP() << "there is no usable /dev/kvm";
    const auto mount = PrivateMount::create("tmpfs", "huge=always,size=128M");
    if (!mount.ok()) GTEST_SKIP() << mount.status();
    const std::string ram = mount->path() + "/ram";
    const Qemu qemu = Qemu::start(GetParam().accelerator, GetParam().sandbox, ram);
    ASSERT_NE(qemu.program, nullptr);
    for (int i = 0; i < 50; ++i) {
        const auto attachment = attach_userfaultfd(qemu.program->pid(), qemu.vcpus());
        ASSERT_TRUE(attachment.ok()) << attachment.status();
        ASSERT_EQ(attachment->adopted, i > 0);
    }
    std::vector<RamBlock> blocks;
    auto block = open_ram_block("ram", ram, Backing::kTmpfsHuge);
    ASSERT_TRUE(block.ok()) << block.status();
    blocks.push_back(*std::move(block));
    auto tracker = UffdWriteProtectTracker::create(qemu.program->pid(), blocks, qemu.vcpus());
    ASSERT_TRUE(tracker.ok()) << tracker.status();
    ASSERT_TRUE((*tracker)->start().ok());
    PageSet dirty{PageBitmap(blocks[0].page_count())};
    // A reset writes the firmware's data anew.
    qemu.program->ask(R"({"execute": "system_reset"})");
    for (int i = 0; i < 10000 && dirty[0].none(); ++i) {
        ASSERT_TRUE((*tracker)->collect(dirty, dirty).ok());
        ASSERT_NE(qemu.status().find("running"), std::string::npos);
    }
    EXPECT_FALSE(dirty[0].none());
    EXPECT_TRUE((*tracker)->stop().ok());
    EXPECT_NE(qemu.status().find("running"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Cases, AttachQemu,
                         testing::Values(Case{"tcg", false}, Case{"tcg", true}, Case{"kvm", false},
                                         Case{"kvm", true}),
                         [](const auto& one) {
                             return std::string(one.param.accelerator) +
                                    (one.param.sandbox ? "_sandbox" : "");
                         });

}  // namespace
}  // namespace godwit
