// The guest in a real QEMU: that it runs, and that it notices each kind of wrong page.
#include <gtest/gtest.h>

#include <cstring>

#include "bench/guest/disk_image.h"
#include "bench/guest/page_format.h"
#include "tests/unit/bench/guest/guest_vm.h"

namespace godwit {
namespace {

uint64_t errors_of(const Mailbox& mailbox) {
    uint64_t errors = mailbox.disk.errors;
    for (const MailboxVcpu& vcpu : mailbox.vcpus) errors += vcpu.errors;
    return errors;
}

bool every_vcpu(const Mailbox& mailbox, const std::function<bool(const MailboxVcpu&)>& holds) {
    for (uint64_t i = 0; i < mailbox.vcpu_count; ++i)
        if (!holds(mailbox.vcpus[i])) return false;
    return true;
}

bool busy_and_swept(const Mailbox& mailbox) {
    return every_vcpu(mailbox, [](const MailboxVcpu& vcpu) {
        return vcpu.writes > 2 * vcpu.page_count && vcpu.sweeps >= 2;
    });
}

class Guest : public testing::TestWithParam<std::string> {
  protected:
    void SetUp() override {
        if (const std::string reason = why_not(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
    }
    void start(GuestVmOptions options) {
        options.accel = GetParam();
        auto vm = GuestVm::start(options);
        ASSERT_TRUE(vm.ok()) << vm.status();
        vm_ = *std::move(vm);
        auto running = vm_->wait_until_running();
        ASSERT_TRUE(running.ok()) << running.status();
        running_ = *running;
    }
    Mailbox wait_for(const std::function<bool(const Mailbox&)>& done) {
        auto mailbox = vm_->wait_for(done);
        EXPECT_TRUE(mailbox.ok()) << mailbox.status();
        return mailbox.ok() ? *mailbox : Mailbox{};
    }
    [[nodiscard]] uint64_t offset_of(uint64_t ws_page) const {
        return ram_file_offset(running_, ws_page_address(running_, ws_page));
    }
    // Runs until every page was written and swept twice, and expects no error.
    void expect_sound(GuestVmOptions options) {
        start(std::move(options));
        if (HasFatalFailure()) return;
        EXPECT_EQ(errors_of(wait_for(busy_and_swept)), 0) << vm_->serial();
    }

    std::unique_ptr<GuestVm> vm_;
    Mailbox running_{};
};

TEST_P(Guest, WritesAndChecksItsWorkingSetWithoutAnError) {
    expect_sound({.command_line = "ws=4M rate=0"});
    EXPECT_EQ(running_.ws_pages, 1024);
    EXPECT_GT(running_.tsc_hz, 100'000'000);
}

TEST_P(Guest, RunsOnPcAsOnQ35WithTheFirmwareThatQemuChooses) {
    expect_sound({.machine = "pc", .seabios = true, .command_line = "ws=4M rate=0"});
}

TEST_P(Guest, SplitsTheWorkingSetOverItsVcpusWhichAllAdvance) {
    expect_sound({.vcpu_count = 2, .command_line = "ws=4M rate=0 vcpus=2"});
    EXPECT_EQ(running_.vcpus[0].page_count + running_.vcpus[1].page_count, 1024);
    EXPECT_EQ(running_.vcpus[1].first_page, running_.vcpus[0].page_count);
}

TEST_P(Guest, WritesEveryPatternAndEveryFill) {
    for (const char* command_line : {"pattern=seq fill=zero", "pattern=random fill=text",
                                     "pattern=hot:90/10 fill=random change=4064"}) {
        SCOPED_TRACE(command_line);
        vm_.reset();
        expect_sound({.command_line = std::string("ws=1M rate=0 ") + command_line});
    }
}

TEST_P(Guest, IdlesWithATickAndASweepButNoWrites) {
    start({.command_line = "ws=1M rate=idle"});
    if (HasFatalFailure()) return;
    const Mailbox later = wait_for([](const Mailbox& now) { return now.vcpus[0].sweeps >= 2; });
    EXPECT_GT(later.vcpus[0].tick, running_.vcpus[0].tick);
    EXPECT_EQ(later.vcpus[0].writes, 0);
    EXPECT_EQ(errors_of(later), 0);
}

// A vCPU that spins goes round thousands of times for each page.
TEST_P(Guest, RestsHaltedBetweenWhatIsDueWhenToldTo) {
    start({.command_line = "ws=1M rate=1000 sweep=1000 rest=halt"});
    if (HasFatalFailure()) return;
    const Mailbox later = wait_for(
        [](const Mailbox& now) { return now.vcpus[0].writes >= 300 && now.vcpus[0].sweeps >= 2; });
    EXPECT_GT(later.vcpus[0].tick, running_.vcpus[0].tick);
    EXPECT_LT(later.vcpus[0].tick - running_.vcpus[0].tick, 100 * later.vcpus[0].writes);
    EXPECT_EQ(errors_of(later), 0);
}

TEST_P(Guest, UsesPagesAboveFourGiB) {
    for (const char* machine : {"q35", "pc"}) {
        SCOPED_TRACE(machine);
        vm_.reset();
        expect_sound(
            {.machine = machine, .memory = "5G", .command_line = "ws=1M rate=0 place=high"});
        EXPECT_GE(running_.regions[0].address, uint64_t{4} << 30);
        // The page is where the mailbox says it is in the RAM file.
        std::vector<char> page;
        ASSERT_TRUE(vm_->read_page(offset_of(100), page).ok());
        uint64_t tag = 0;
        std::memcpy(&tag, page.data(), sizeof tag);
        EXPECT_EQ(tag, page_tag(100, 1));
    }
}

TEST_P(Guest, NamesTheFirstBadPageWhenSomeoneChangesOne) {
    start({.command_line = "ws=4M rate=100"});
    if (HasFatalFailure()) return;
    constexpr uint64_t kVictim = 700;
    std::vector<char> page;
    ASSERT_TRUE(vm_->read_page(offset_of(kVictim), page).ok());
    page[2000] ^= 1;
    ASSERT_TRUE(vm_->write(offset_of(kVictim), page).ok());
    const Mailbox bad = wait_for([](const Mailbox& now) { return now.vcpus[0].errors > 0; });
    EXPECT_EQ(bad.vcpus[0].first_bad_page, kVictim);
    EXPECT_EQ(bad.vcpus[0].first_bad_kind, static_cast<uint64_t>(GuestFault::kChecksum));
}

TEST_P(Guest, NoticesAPageThatIsEmptyAgain) {
    start({.command_line = "ws=4M rate=100"});
    if (HasFatalFailure()) return;
    constexpr uint64_t kVictim = 1023;
    ASSERT_TRUE(vm_->write(offset_of(kVictim), std::vector<char>(kPageBytes)).ok());
    const Mailbox bad = wait_for([](const Mailbox& now) { return now.vcpus[0].errors > 0; });
    EXPECT_EQ(bad.vcpus[0].first_bad_page, kVictim);
    EXPECT_EQ(bad.vcpus[0].first_bad_kind, static_cast<uint64_t>(GuestFault::kTag));
}

// A page that is changed while the vCPU is in the middle of checking it does not add up: that is
// the test's own doing (one time in the number of pages), so the change is made to a fresh guest.
class GuestFallsBack : public Guest {
  protected:
    static constexpr uint64_t kVictim = 40;
    // What the guest says first after `change`, with 64 pages written about once a second each.
    MailboxVcpu first_fault_after(const std::function<void()>& change) {
        for (int attempt = 0; attempt < 6; ++attempt) {
            vm_.reset();
            start({.command_line = "ws=256K rate=64"});
            if (HasFatalFailure()) break;
            change();
            if (HasFatalFailure()) break;
            const Mailbox bad =
                wait_for([](const Mailbox& now) { return now.vcpus[0].errors > 0; });
            if (bad.vcpus[0].first_bad_kind != static_cast<uint64_t>(GuestFault::kChecksum))
                return bad.vcpus[0];
        }
        return {};
    }
    void put_counter(uint32_t count) {
        const uint32_t inverted = ~count;
        EXPECT_TRUE(vm_->write(running_.counters_address + 4 * kVictim, bytes_of(count)).ok());
        EXPECT_TRUE(vm_->write(running_.inverted_address + 4 * kVictim, bytes_of(inverted)).ok());
    }
    static std::span<const char> bytes_of(const uint32_t& value) {
        return {reinterpret_cast<const char*>(&value), sizeof value};
    }
};

TEST_P(GuestFallsBack, AndNoticesAnOlderConsistentPage) {
    const MailboxVcpu bad = first_fault_after([&] {
        std::vector<char> old_page;
        ASSERT_TRUE(vm_->read_page(offset_of(kVictim), old_page).ok());
        std::vector<char> page;
        wait_for([&](const Mailbox&) {
            return vm_->read_page(offset_of(kVictim), page).ok() && page != old_page;
        });
        ASSERT_TRUE(vm_->write(offset_of(kVictim), old_page).ok());
    });
    EXPECT_EQ(bad.first_bad_page, kVictim);
    EXPECT_EQ(bad.first_bad_kind, static_cast<uint64_t>(GuestFault::kStale));
}

TEST_P(GuestFallsBack, AndNoticesOneCopyOfTheCounters) {
    const MailboxVcpu bad = first_fault_after([&] {
        const uint32_t wrong = 1000;
        ASSERT_TRUE(vm_->write(running_.counters_address + 4 * kVictim, bytes_of(wrong)).ok());
    });
    EXPECT_EQ(bad.first_bad_page, kVictim);
    EXPECT_EQ(bad.first_bad_kind, static_cast<uint64_t>(GuestFault::kCounters));
}

TEST_P(GuestFallsBack, AndNoticesAPageTogetherWithItsCounters) {
    const MailboxVcpu bad = first_fault_after([&] {
        std::vector<char> old_page;
        ASSERT_TRUE(vm_->read_page(offset_of(kVictim), old_page).ok());
        uint64_t old_count = 0;
        std::memcpy(&old_count, old_page.data() + 8 * kCountWord, sizeof old_count);
        wait_for([](const Mailbox& now) { return now.vcpus[0].writes > 200; });
        vm_->freeze();
        const bool written = vm_->write(offset_of(kVictim), old_page).ok();
        put_counter(static_cast<uint32_t>(old_count));
        vm_->thaw();
        ASSERT_TRUE(written);
    });
    EXPECT_EQ(bad.first_bad_page, kNoPage);
    EXPECT_EQ(bad.first_bad_kind, static_cast<uint64_t>(GuestFault::kLedger));
}

TEST_P(Guest, SaysWhichWordOfTheCommandLineIsWrong) {
    for (const char* command_line : {"ws=64M speed=9", "ws=64X", "vcpus=2"}) {
        auto vm = GuestVm::start({.accel = GetParam(), .command_line = command_line});
        ASSERT_TRUE(vm.ok()) << vm.status();
        const auto mailbox = (*vm)->wait_for([](const Mailbox& now) {
            return now.state == static_cast<uint64_t>(GuestState::kBadConfig);
        });
        ASSERT_TRUE(mailbox.ok()) << command_line << ": " << mailbox.status();
        EXPECT_NE(std::string(mailbox->message).find("bad-config"), std::string::npos);
    }
}

class GuestWithDisk : public Guest {
  protected:
    // A 16 MiB disk; on the file system of the build, since O_DIRECT may be refused by tmpfs.
    GuestVmOptions with_disk(const std::string& command_line) {
        EXPECT_TRUE(make_disk_image(disk_path_, 16u << 20, 3).ok());
        return {
            .command_line = "disk=on " + command_line,
            .arguments = {"-drive",
                          "if=none,id=disk0,format=raw,cache=none,aio=threads,file=" + disk_path_,
                          "-device", "virtio-blk-pci,drive=disk0"}};
    }
    void TearDown() override {
        vm_.reset();
        ::unlink(disk_path_.c_str());
    }
    const std::string disk_path_ = "godwit-guest-test-disk-" + std::to_string(::getpid()) + ".img";
};

TEST_P(GuestWithDisk, ReadsTheDiskByDmaAndFindsEveryPageRight) {
    GuestVmOptions options = with_disk("ws=1M rate=1000 dma=1M");
    options.seabios = true;
    start(std::move(options));
    if (HasFatalFailure()) return;
    const Mailbox later = wait_for([](const Mailbox& now) {
        return now.disk.reads > 2 * now.disk.pool_pages && now.disk.checked > now.disk.pool_pages;
    });
    EXPECT_EQ(errors_of(later), 0) << vm_->serial();
}

TEST_P(GuestWithDisk, NoticesADmaPageThatSomeoneChangesAfterTheRead) {
    // The pool's 256 pages are filled in turn, ten a second: page 0 stays for 25 seconds.
    start(with_disk("ws=1M rate=1000 dma=1M diskrate=10"));
    if (HasFatalFailure()) return;
    const Mailbox before = wait_for([](const Mailbox& now) { return now.disk.reads >= 1; });
    ASSERT_TRUE(vm_->write(before.disk.pool_address, std::vector<char>(kPageBytes)).ok());
    const Mailbox bad = wait_for([](const Mailbox& now) { return now.disk.errors > 0; });
    EXPECT_EQ(bad.disk.first_bad_page, 0);
    EXPECT_EQ(bad.disk.first_bad_kind, static_cast<uint64_t>(GuestFault::kDiskContent));
}

TEST_P(GuestWithDisk, WorksBehindARootPortToo) {
    GuestVmOptions options = with_disk("ws=1M rate=1000 dma=1M");
    options.seabios = true;  // qboot sets up no bridges
    options.arguments.back() += ",bus=port0";
    options.arguments.insert(options.arguments.begin(),
                             {"-device", "pcie-root-port,id=port0,chassis=1"});
    start(std::move(options));
    if (HasFatalFailure()) return;
    wait_for([](const Mailbox& now) { return now.disk.reads > 100; });
}

const auto accel_name = [](const testing::TestParamInfo<std::string>& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(Under, Guest, testing::Values("kvm", "tcg"), accel_name);
INSTANTIATE_TEST_SUITE_P(Under, GuestFallsBack, testing::Values("kvm", "tcg"), accel_name);
INSTANTIATE_TEST_SUITE_P(Under, GuestWithDisk, testing::Values("kvm", "tcg"), accel_name);

}  // namespace
}  // namespace godwit
