// Device state from one QEMU to another, and every way back, with RAM copied by the test.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "engine/base/wait.h"
#include "engine/guest/qemu/kvm_probe.h"
#include "test_vms.h"

namespace godwit {
namespace {

using testing::HasSubstr;

struct Stream {
    UniqueFd in;
    UniqueFd out;
};

Stream make_stream() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// Takes what comes, so that the sender never waits, until the end or pause().
class Drain {
  public:
    explicit Drain(UniqueFd in) : in_(std::move(in)), wakeup_(*Wakeup::create()) {
        thread_ = std::jthread([this] {
            std::array<char, 65536> chunk{};
            while (wait_readable(in_.get(), wakeup_.fd(), std::nullopt).ok() &&
                   ::read(in_.get(), chunk.data(), chunk.size()) > 0) {
            }
        });
    }
    ~Drain() { pause(); }
    // Reads no more, and keeps the socket open.
    void pause() {
        wakeup_.notify();
        if (thread_.joinable()) thread_.join();
    }
    // The other side gets EPIPE.
    void close() {
        pause();
        in_.reset();
    }

  private:
    UniqueFd in_;
    Wakeup wakeup_;
    std::jthread thread_;
};

void copy_ram(const Vm& from, const Vm& to) {
    for (size_t i = 0; i < from.ram_blocks().size(); ++i) {
        std::vector<char> bytes(from.ram_blocks()[i].size);
        ASSERT_TRUE(
            read_fully(from.ram_blocks()[i].file.get(), bytes.data(), bytes.size(), 0).ok());
        ASSERT_TRUE(write_fully(to.ram_blocks()[i].file.get(), bytes.data(), bytes.size(), 0).ok());
    }
}

class QemuMigration : public testing::TestWithParam<v1::Accel> {
  protected:
    void SetUp() override {
        GODWIT_NEED_ROOT_AND(GetParam());
        image_ = source_state_.path() + "/disk.qcow2";
        ASSERT_TRUE(make_image(image_, "qcow2"));
        v1::VmSpec spec = bios_guest("demo", GetParam());
        spec.add_disks()->set_path(image_);
        spec.mutable_disks(0)->set_format("qcow2");
        spec.add_nics();
        auto source = source_host_.start(spec, StartMode::kRun);
        ASSERT_TRUE(source.ok()) << source.status();
        source_ = *std::move(source);
        log_ = std::make_unique<EventLog>(*source_);
    }
    void TearDown() override {
        log_.reset();
        for (auto& vm : {source_, target_}) {
            if (vm) {
                EXPECT_TRUE(vm->stop(true, kTestLimit).ok());
            }
        }
    }

    void start_target() {
        auto target = target_host_.start(source_->spec(), StartMode::kIncoming);
        ASSERT_TRUE(target.ok()) << target.status();
        target_ = *std::move(target);
        target_log_ = std::make_unique<EventLog>(*target_);
    }
    void freeze(UniqueFd out) {
        ASSERT_TRUE(source_->prepare_device_save(std::move(out)).ok());
        const absl::Status begun = source_->begin_device_save();
        ASSERT_TRUE(begun.ok()) << begun;
        ASSERT_TRUE(log_->wait_for(GuestEventKind::kMigration, "pre-switchover"));
    }
    // All of the guest is at the target, which waits for `cont`.
    void load_target() {
        start_target();
        Stream stream = make_stream();
        ASSERT_TRUE(target_->begin_device_load(std::move(stream.in)).ok());
        freeze(std::move(stream.out));
        copy_ram(*source_, *target_);
        ASSERT_TRUE(source_->finish_device_save().ok());
        ASSERT_TRUE(log_->wait_for(GuestEventKind::kMigration, "completed"));
        ASSERT_TRUE(target_log_->wait_for(GuestEventKind::kMigration, "completed"));
    }
    void expect_runs_with_its_disk() {
        EXPECT_EQ(source_->run_state().value_or(RunState::kOther), RunState::kRunning);
        const absl::Status grown = grow_disk(*source_);
        EXPECT_TRUE(grown.ok()) << grown;
    }

    StateDir source_state_;
    StateDir target_state_;
    QemuHypervisor source_host_{{.state_dir = source_state_.path()}};
    QemuHypervisor target_host_{{.state_dir = target_state_.path()}};
    std::string image_;
    std::shared_ptr<Vm> source_;
    std::shared_ptr<Vm> target_;
    std::unique_ptr<EventLog> log_;
    std::unique_ptr<EventLog> target_log_;
};

INSTANTIATE_TEST_SUITE_P(Accel, QemuMigration, testing::Values(v1::ACCEL_TCG, v1::ACCEL_KVM),
                         [](const auto& chosen) { return v1::Accel_Name(chosen.param); });

TEST_P(QemuMigration, TheGuestRunsAtTheTargetWithItsDisk) {
    start_target();
    Stream stream = make_stream();
    ASSERT_TRUE(target_->begin_device_load(std::move(stream.in)).ok());
    freeze(std::move(stream.out));
    EXPECT_TRUE(log_->wait_for(GuestEventKind::kStop));
    EXPECT_EQ(source_->run_state().value_or(RunState::kOther), RunState::kFinishMigrate);
    copy_ram(*source_, *target_);
    ASSERT_TRUE(source_->finish_device_save().ok());
    ASSERT_TRUE(log_->wait_for(GuestEventKind::kMigration, "completed"));
    ASSERT_TRUE(target_log_->wait_for(GuestEventKind::kMigration, "completed"));
    EXPECT_EQ(source_->run_state().value_or(RunState::kOther), RunState::kPostMigrate);
    EXPECT_EQ(target_->run_state().value_or(RunState::kOther), RunState::kPaused);
    const absl::Status resumed = target_->resume(kTestLimit);
    ASSERT_TRUE(resumed.ok()) << resumed;
    EXPECT_TRUE(target_log_->wait_for(GuestEventKind::kResume));
    EXPECT_EQ(target_->run_state().value_or(RunState::kOther), RunState::kRunning);
    const absl::Status grown = grow_disk(*target_);
    EXPECT_TRUE(grown.ok()) << grown;
    EXPECT_TRUE(target_->announce().ok());
    // Events are stamped in the order in which they happened.
    const auto events = log_->events();
    for (size_t i = 1; i < events.size(); ++i) EXPECT_LE(events[i - 1].at, events[i].at);
    target_log_.reset();
}

TEST_P(QemuMigration, ALoadedTargetWhoseDiskIsHeldElsewhereDoesNotResume) {
    load_target();
    ASSERT_TRUE(source_->roll_back(/*run=*/true, kTestLimit).ok());
    const absl::Status status = target_->resume(kTestLimit);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("lock"));
    EXPECT_EQ(target_->run_state().value_or(RunState::kOther), RunState::kPaused);
    expect_runs_with_its_disk();
    target_log_.reset();
}

TEST_P(QemuMigration, ATargetThatIsKilledBeforeItReadContHasNeverRunTheGuest) {
    load_target();
    ASSERT_EQ(::kill(target_->pid(), SIGSTOP), 0);
    const absl::Status waiting = target_->resume(std::chrono::milliseconds(100));
    EXPECT_EQ(waiting.code(), absl::StatusCode::kDeadlineExceeded) << waiting;
    ASSERT_EQ(::kill(target_->pid(), SIGKILL), 0);
    EXPECT_TRUE(target_log_->wait_for(GuestEventKind::kGone));
    const absl::Status status = target_->resume(kTestLimit);
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
    target_log_.reset();
    ASSERT_TRUE(source_->roll_back(/*run=*/true, kTestLimit).ok());
    expect_runs_with_its_disk();
}

TEST_P(QemuMigration, ATargetThatIsKilledAfterContMayHaveRunTheGuest) {
    load_target();
    ASSERT_TRUE(target_->resume(kTestLimit).ok());
    ASSERT_EQ(::kill(target_->pid(), SIGKILL), 0);
    EXPECT_TRUE(target_log_->wait_for(GuestEventKind::kGone));
    EXPECT_EQ(target_->resume(kTestLimit).code(), absl::StatusCode::kNotFound);
    target_log_.reset();
}

TEST_P(QemuMigration, ARollBackBeforeAnythingBeganIsHarmless) {
    Stream stream = make_stream();
    ASSERT_TRUE(source_->prepare_device_save(std::move(stream.out)).ok());
    const absl::Status rolled = source_->roll_back(true, kTestLimit);
    EXPECT_TRUE(rolled.ok()) << rolled;
    expect_runs_with_its_disk();
}

TEST_P(QemuMigration, ARollBackBeforePreSwitchoverLetsTheGuestRun) {
    // Nobody reads: QEMU fills the socket and waits, the guest running.
    Stream stream = make_stream();
    ASSERT_TRUE(source_->prepare_device_save(std::move(stream.out)).ok());
    ASSERT_TRUE(source_->begin_device_save().ok());
    const absl::Status rolled = source_->roll_back(true, kTestLimit);
    EXPECT_TRUE(rolled.ok()) << rolled;
    expect_runs_with_its_disk();
}

TEST_P(QemuMigration, ARollBackInPreSwitchoverLetsTheGuestRunAndMigrateLater) {
    for (int round = 0; round < 2; ++round) {
        Stream stream = make_stream();
        const Drain drain(std::move(stream.in));
        freeze(std::move(stream.out));
        const absl::Status rolled = source_->roll_back(true, kTestLimit);
        EXPECT_TRUE(rolled.ok()) << rolled;
        expect_runs_with_its_disk();
        log_->clear();
    }
}

TEST_P(QemuMigration, ARollBackAfterCompletedTakesTheDiskBack) {
    Stream stream = make_stream();
    const Drain drain(std::move(stream.in));
    freeze(std::move(stream.out));
    ASSERT_TRUE(source_->finish_device_save().ok());
    ASSERT_TRUE(log_->wait_for(GuestEventKind::kMigration, "completed"));
    const absl::Status rolled = source_->roll_back(true, kTestLimit);
    EXPECT_TRUE(rolled.ok()) << rolled;
    expect_runs_with_its_disk();
}

TEST_P(QemuMigration, ARollBackWhileTheStreamIsStuckLetsTheGuestRun) {
    Stream stream = make_stream();
    int size = 4096;  // less than the device state
    ::setsockopt(stream.out.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    Drain drain(std::move(stream.in));
    freeze(std::move(stream.out));
    drain.pause();
    ASSERT_TRUE(source_->finish_device_save().ok());
    ASSERT_TRUE(log_->wait_for(GuestEventKind::kMigration, "device"));
    // QEMU hangs in its write now, with the lock that QMP needs.
    const absl::Status rolled = source_->roll_back(true, kTestLimit);
    EXPECT_TRUE(rolled.ok()) << rolled;
    expect_runs_with_its_disk();
}

TEST_P(QemuMigration, ABrokenStreamFailsAndTheGuestRuns) {
    Stream stream = make_stream();
    Drain drain(std::move(stream.in));
    freeze(std::move(stream.out));
    drain.close();
    ASSERT_TRUE(source_->finish_device_save().ok());
    ASSERT_TRUE(log_->wait_for(GuestEventKind::kMigration, "failed"));
    const absl::Status rolled = source_->roll_back(true, kTestLimit);
    EXPECT_TRUE(rolled.ok()) << rolled;
    EXPECT_TRUE(log_->wait_for(GuestEventKind::kResume));
    expect_runs_with_its_disk();
}

TEST_P(QemuMigration, AGuestThatWasPausedStaysPausedAfterARollBack) {
    (void)monitor_command(*source_, "stop");
    ASSERT_EQ(source_->run_state().value_or(RunState::kOther), RunState::kPaused);
    Stream stream = make_stream();
    const Drain drain(std::move(stream.in));
    freeze(std::move(stream.out));
    const absl::Status rolled = source_->roll_back(/*run=*/false, kTestLimit);
    EXPECT_TRUE(rolled.ok()) << rolled;
    EXPECT_EQ(source_->run_state().value_or(RunState::kOther), RunState::kPostMigrate);
    for (const GuestEvent& event : log_->events()) EXPECT_NE(event.kind, GuestEventKind::kResume);
}

TEST_P(QemuMigration, APipeIsRefusedForQemuCouldHangInIt) {
    std::array<int, 2> fds{};
    ASSERT_EQ(::pipe2(fds.data(), O_CLOEXEC), 0);
    const UniqueFd in(fds[0]);
    EXPECT_EQ(source_->prepare_device_save(UniqueFd(fds[1])).code(),
              absl::StatusCode::kInvalidArgument);
    expect_runs_with_its_disk();
}

TEST_P(QemuMigration, ALoadOfGarbageFailsAndSaysSo) {
    start_target();
    Stream stream = make_stream();
    const std::string garbage(4096, 'x');
    ASSERT_EQ(::write(stream.out.get(), garbage.data(), garbage.size()), 4096);
    stream.out.reset();
    // QEMU may answer before it reads, or be gone first.
    const absl::Status begun = target_->begin_device_load(std::move(stream.in));
    if (begun.ok()) {
        EXPECT_TRUE(target_log_->wait_for(GuestEventKind::kGone));
    }
    EXPECT_FALSE(target_->resume(kTestLimit).ok());
    expect_runs_with_its_disk();
    target_log_.reset();
}

}  // namespace
}  // namespace godwit
