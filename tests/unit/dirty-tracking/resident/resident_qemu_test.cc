// A real QEMU with the resident in it: its firmware is logged over resets, beside a VGA that logs
// for itself and beside QEMU's own migration, with and without its sandbox.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "dirty-tracking/resident/resident_client.h"
#include "tests/unit/dirty-tracking/process/child_program.h"
#include "tests/unit/dirty-tracking/process/private_mount.h"

namespace godwit {
namespace {

constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";
constexpr const char* kRamSize = "64M";

struct Case {
    const char* name;
    const char* accelerator;
    std::vector<std::string> arguments;
};

class ResidentQemu : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        if (::access(kQemu, X_OK) != 0) GTEST_SKIP() << "there is no " << kQemu;
        if (is_kvm() && ::access("/dev/kvm", R_OK | W_OK) != 0)
            GTEST_SKIP() << "there is no usable /dev/kvm";
        auto mount = PrivateMount::create("tmpfs", "huge=always,size=128M");
        if (!mount.ok()) GTEST_SKIP() << mount.status();
        mount_ = std::make_unique<PrivateMount>(*std::move(mount));
        ASSERT_NO_FATAL_FAILURE(start_qemu());
        auto block = open_ram_block("ram", mount_->path() + "/ram", Backing::kTmpfsHuge);
        ASSERT_TRUE(block.ok()) << block.status();
        blocks_.push_back(*std::move(block));
        auto client = ResidentClient::connect(socket_path(), qemu_->pid());
        ASSERT_TRUE(client.ok()) << client.status();
        client_ = *std::move(client);
    }

    [[nodiscard]] static bool is_kvm() { return std::string(GetParam().accelerator) == "kvm"; }
    [[nodiscard]] std::string socket_path() const { return mount_->path() + "/resident"; }

    UniqueFd listen() {
        UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
        sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
        socket_path().copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(
            ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(::listen(listener.get(), 4), 0);
        return listener;
    }

    void start_qemu() {
        const UniqueFd listener = listen();
        std::vector<std::string> arguments{
            "/usr/bin/env",
            std::string("LD_PRELOAD=") + GODWIT_RESIDENT_LIBRARY,
            "GODWIT_RESIDENT_FD=" + std::to_string(listener.get()),
            kQemu,
            "-machine",
            "q35,memory-backend=ram",
            "-accel",
            GetParam().accelerator,
            "-nodefaults",
            "-display",
            "none",
            "-m",
            kRamSize,
            "-object",
            std::string("memory-backend-file,id=ram,share=on,align=2M,size=") + kRamSize +
                ",mem-path=" + mount_->path() + "/ram",
            "-qmp",
            "stdio"};
        arguments.insert(arguments.end(), GetParam().arguments.begin(), GetParam().arguments.end());
        auto program = ChildProgram::start(arguments);
        ASSERT_TRUE(program.ok()) << program.status();
        qemu_ = *std::move(program);
        ASSERT_NE(qemu_->read_line().find("QMP"), std::string::npos);
        command(R"({"execute": "qmp_capabilities"})");
    }

    // The answer, past events.
    std::string command(const std::string& text) {
        std::string answer = qemu_->ask(text);
        while (answer.find("\"event\"") != std::string::npos) answer = qemu_->read_line();
        return answer;
    }
    bool is_running() {
        return command(R"({"execute": "query-status"})").find("running") != std::string::npos;
    }

    // Pages that a reset of the firmware dirties.
    uint64_t pages_of_a_reset() {
        PageSet dirty{PageBitmap(blocks_[0].page_count())};
        command(R"({"execute": "system_reset"})");
        for (int i = 0; i < 20'000 && dirty[0].none() && !HasFailure(); ++i) {
            EXPECT_TRUE(client_->collect(dirty).ok());
            EXPECT_TRUE(client_->rearm(0, {0, blocks_[0].page_count()}).ok());
        }
        return dirty[0].count();
    }

    std::unique_ptr<PrivateMount> mount_;
    std::unique_ptr<ChildProgram> qemu_;
    std::vector<RamBlock> blocks_;
    std::unique_ptr<ResidentClient> client_;
};

TEST_P(ResidentQemu, IsLoggedAndRunsOn) {
    const auto state = client_->state();
    ASSERT_TRUE(state.ok()) << state.status();
    if (!is_kvm()) {
        EXPECT_FALSE(state->has_kvm);
        EXPECT_TRUE(client_->start_log(blocks_, ResidentLog::kDiscardsOnly).ok());
        EXPECT_TRUE(is_running());
        return;
    }
    EXPECT_EQ(state->problem, "");
    EXPECT_TRUE(state->manual_protect && state->initially_set);
    EXPECT_EQ(state->unmappable_slots, 0u);
    EXPECT_EQ(state->vcpus, 1u);
    const auto views = client_->views();
    ASSERT_TRUE(views.ok());
    EXPECT_EQ(std::count_if(views->begin(), views->end(),
                            [this](const auto& view) { return view.inode == blocks_[0].inode; }),
              1);
    for (int i = 0; i < 3; ++i) {
        const absl::Status status = client_->start_log(blocks_);
        ASSERT_TRUE(status.ok()) << status;
        EXPECT_GT(pages_of_a_reset(), 0u);
        EXPECT_TRUE(client_->set_throttle(50).ok());
        EXPECT_GT(pages_of_a_reset(), 0u);
        EXPECT_TRUE(is_running());
        EXPECT_TRUE(client_->set_throttle(0).ok());
        EXPECT_TRUE(client_->stop_log().ok());
    }
    EXPECT_TRUE(is_running());
}

TEST_P(ResidentQemu, MigratesByItselfBesideTheLog) {
    if (!is_kvm()) GTEST_SKIP() << "only KVM has a log";
    ASSERT_TRUE(client_->start_log(blocks_).ok());
    EXPECT_GT(pages_of_a_reset(), 0u);
    command(R"({"execute": "migrate", "arguments": {"uri": "exec:cat >/dev/null"}})");
    std::string answer;
    for (int i = 0; i < 20'000 && answer.find("completed") == std::string::npos; ++i) {
        PageSet dirty{PageBitmap(blocks_[0].page_count())};
        ASSERT_TRUE(client_->collect(dirty).ok());
        ASSERT_TRUE(client_->rearm(0, {0, blocks_[0].page_count()}).ok());
        answer = command(R"({"execute": "query-migrate"})");
        ASSERT_EQ(answer.find("failed"), std::string::npos) << answer;
    }
    EXPECT_NE(answer.find("completed"), std::string::npos) << answer;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, ResidentQemu,
    testing::Values(Case{"kvm", "kvm", {}}, Case{"kvm_vga", "kvm", {"-vga", "std"}},
                    Case{"kvm_sandbox",
                         "kvm",
                         {"-sandbox",
                          "on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny"}},
                    Case{"tcg", "tcg", {}}),
    [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace godwit
