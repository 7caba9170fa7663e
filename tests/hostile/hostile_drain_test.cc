// What must not harm a guest whose last pages are still coming.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>

#include <cstring>
#include <fstream>

#include "tests/fault/drain_lab.h"
#include "tests/hostile/fake_source.h"
#include "transport/frame/bodies.h"
#include "transport/frame/pages_body.h"

namespace godwit::testing {
namespace {

using ::testing::HasSubstr;

constexpr Duration kLimit = std::chrono::seconds(20);
constexpr uint64_t kChunks = 128;  // of the guest's 256 MiB

std::vector<std::byte> pages_frame(const PagesBody& pages, size_t payload_bytes = 0) {
    std::vector<std::byte> body(kPagesHeadBytes + payload_bytes);
    encode_pages_head(pages, std::span(body).first<kPagesHeadBytes>());
    return body;
}

PagesBody zero_page(BlockIndex block, ChunkIndex chunk) {
    PagesBody pages{.block = block, .chunk = chunk};
    pages.present[0] = pages.zero[0] = 1;
    return pages;
}

// The source's agent dies in the middle of a drain, and a liar takes its place.
class LyingDrain : public DrainLab {
  protected:
    void take_the_sources_place() {
        command_.emplace(begin_postcopy({"--streams", std::to_string(kDataStreams)}));
        ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
        a.end(SIGKILL);
        EXPECT_TRUE(command_->wait(kLimit));
    }

    // Says that it comes.
    v1::ReconnectResponse announce() {
        const auto api = transfer_api(b);
        grpc::ClientContext context;
        v1::ReconnectRequest request;
        request.set_migration_id(kId);
        v1::ReconnectResponse response;
        const grpc::Status status = api->Reconnect(&context, request, &response);
        EXPECT_TRUE(status.ok()) << status.error_message();
        EXPECT_TRUE(response.state().draining());
        return response;
    }

    // All streams, greeted; the last is the urgent one.
    std::vector<FakeStream> connect() {
        const v1::ReconnectResponse response = announce();
        SessionToken token{};
        EXPECT_EQ(response.session_token().size(), token.size());
        std::memcpy(token.data(), response.session_token().data(),
                    std::min(token.size(), response.session_token().size()));
        std::vector<FakeStream> streams;
        for (uint16_t i = 0; i <= kDataStreams; ++i) {
            const FrameRoute route{.migration_id = frame_migration_id(kId),
                                   .stream = i,
                                   .generation = response.generation()};
            auto channel = connect_tcp("127.0.0.1", static_cast<uint16_t>(response.data_port()),
                                       Clock::system().now() + kLimit);
            EXPECT_TRUE(channel.ok()) << channel.status();
            if (!channel.ok()) return {};
            const absl::Status greeted =
                client_hello(**channel, route, token, Clock::system().now() + kLimit);
            EXPECT_TRUE(greeted.ok()) << greeted;
            FakeStream& stream = streams.emplace_back();
            stream.channel = *std::move(channel);
            stream.writer = std::make_unique<FrameWriter>(*stream.channel, route);
            stream.reader = std::make_unique<FrameReader>(*stream.channel, route);
        }
        return streams;
    }

    // What the destination says is missing; other frames are passed over.
    static std::vector<ChunkPages> hear_missing(FakeStream& urgent) {
        std::vector<ChunkPages> all;
        const std::vector<uint64_t> chunk_counts = {kChunks};
        while (true) {
            const absl::StatusOr<Frame> frame = urgent.reader->next();
            EXPECT_TRUE(frame.ok()) << frame.status();
            if (!frame.ok() || frame->kind() == FrameKind::kMissingEnd) return all;
            if (frame->kind() != FrameKind::kMissing) continue;
            const auto list = decode_chunk_pages(frame->body, chunk_counts, kMaxMissingChunks);
            EXPECT_TRUE(list.ok()) << list.status();
            if (list.ok()) all.insert(all.end(), list->begin(), list->end());
        }
    }

    // The destination hangs up, with `words` in its log, and the guest waits on.
    void expect_hung_up(const std::string& words,
                        const std::function<void(std::vector<FakeStream>&)>& lie) {
        SCOPED_TRACE(words);
        const size_t before = b.log().size();
        std::vector<FakeStream> streams = connect();
        ASSERT_EQ(streams.size(), size_t{kDataStreams} + 1);
        lie(streams);
        EXPECT_TRUE(eventually(kLimit, [&] {
            const std::string said = b.log().substr(before);
            const size_t end = said.find("the streams end here: ");
            return end != std::string::npos && said.find(words, end) != std::string::npos;
        })) << b.log().substr(before);
        EXPECT_EQ(b.qemu_pids().size(), 1U) << "the guest was killed";
        EXPECT_GT(missing_at_b(), 0U);
    }

    void expect_finished_by_the_true_source() {
        bring_back(a);
        expect_drained_in_the_end();
    }

  private:
    std::optional<BackgroundCommand> command_;
};

auto on_urgent(FrameKind kind, std::vector<std::byte> body = {}) {
    return [kind, body](std::vector<FakeStream>& streams) {
        EXPECT_TRUE(streams.back().writer->send(kind, body).ok());
    };
}

auto on_data(FrameKind kind, std::vector<std::byte> body = {}) {
    return [kind, body](std::vector<FakeStream>& streams) {
        EXPECT_TRUE(streams.front().writer->send(kind, body).ok());
    };
}

TEST_F(LyingDrain, WithPagesThatThereAreNotIsHungUpOn) {
    take_the_sources_place();
    const auto outside = pages_frame(zero_page(0, kChunks));
    const auto other_block = pages_frame(zero_page(1, 0));
    PagesBody short_page = zero_page(0, 0);
    short_page.zero = {};
    short_page.raw_bytes = kPageBytes;
    PagesBody two_pages = short_page;
    two_pages.present[0] = 3;
    for (const FrameKind kind : {FrameKind::kFaultPages, FrameKind::kPrepagedPages}) {
        expect_hung_up("chunk", on_urgent(kind, outside));
        expect_hung_up("block", on_urgent(kind, other_block));
        expect_hung_up("bytes", on_urgent(kind, pages_frame(short_page, 100)));
        expect_hung_up("bytes", on_urgent(kind, pages_frame(two_pages, kPageBytes)));
    }
    expect_hung_up("chunk", on_data(FrameKind::kPages, outside));
    expect_hung_up("bytes", on_data(FrameKind::kPages, pages_frame(short_page, 100)));
    expect_finished_by_the_true_source();
}

TEST_F(LyingDrain, ThatGoesBackToAnEarlierStepIsHungUpOn) {
    take_the_sources_place();
    ChunkPages page{.block = 0, .chunk = 1};
    page.pages[0] = 1;
    const FrameBytes punch = encode_chunk_pages({&page, 1});
    expect_hung_up("unexpected frame", on_data(FrameKind::kPunch, {punch.begin(), punch.end()}));
    for (const FrameKind kind : {FrameKind::kCommit, FrameKind::kPostcopyBegin,
                                 FrameKind::kPostcopyOff, FrameKind::kPostcopyFinal})
        expect_hung_up("unexpected frame", on_urgent(kind));
    expect_finished_by_the_true_source();
}

// The agent that loaded it is gone, and with it the way to QEMU.
TEST_F(LyingDrain, WithDeviceStateForARestartedAgentIsHungUpOn) {
    take_the_sources_place();
    b.end(SIGKILL);
    bring_back(b);
    expect_hung_up("device state", on_urgent(FrameKind::kDeviceState, {std::byte{1}}));
    const FrameBytes end = DeviceStateEndBody{.total_bytes = 1}.encode();
    expect_hung_up("device state", on_urgent(FrameKind::kDeviceStateEnd, {end.begin(), end.end()}));
    expect_finished_by_the_true_source();
}

// Nobody asked for them, and the guest has written them since.
TEST_F(LyingDrain, CannotOverwritePagesThatHaveCome) {
    take_the_sources_place();
    {
        std::vector<FakeStream> streams = connect();
        ASSERT_EQ(streams.size(), size_t{kDataStreams} + 1);
        FakeStream& urgent = streams.back();
        std::vector<ChunkMask> missing(kChunks);
        for (const ChunkPages& entry : hear_missing(urgent)) missing[entry.chunk] = entry.pages;
        uint64_t sent = 0;
        for (ChunkIndex chunk = 0; chunk < kChunks; ++chunk) {
            PagesBody pages{.block = 0, .chunk = chunk};
            for (size_t i = 0; i < pages.present.size(); ++i) pages.present[i] = ~missing[chunk][i];
            pages.zero = pages.present;
            if (count_pages(pages.present) == 0) continue;
            sent += count_pages(pages.present);
            EXPECT_TRUE(urgent.writer->send(FrameKind::kFaultPages, pages_frame(pages)).ok());
            EXPECT_TRUE(streams.front().writer->send(FrameKind::kPages, pages_frame(pages)).ok());
        }
        EXPECT_GT(sent, 0U);
        // Taken in, all of them, once this is answered; and it is not over only because it says so.
        const FrameBytes marker = MarkerBody{}.encode();
        for (FakeStream& stream : streams)
            EXPECT_TRUE(stream.writer->send(FrameKind::kMarker, marker).ok());
        EXPECT_FALSE(hear_missing(urgent).empty());
    }
    expect_finished_by_the_true_source();
}

TEST_F(LyingDrain, ThatAnnouncesItselfAndDoesNotComeIsWaitedForNoLongerAndTheReasonIsSaid) {
    take_the_sources_place();
    announce();
    EXPECT_TRUE(eventually(2 * kLimit, [&] {
        return b.log().find("the source is lost (Cannot accept a stream: 0 of 3 came in time") !=
               std::string::npos;
    })) << b.log();
    expect_finished_by_the_true_source();
}

using SilentSource = DrainLab;

TEST_F(SilentSource, IsReportedAndTheGuestGoesOnWhenItIsWellAgain) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    a.signal(SIGSTOP);
    EXPECT_TRUE(eventually(kLimit, [&] {
        return b.log().find("s for a page that the source owes it") != std::string::npos;
    })) << b.log();
    EXPECT_EQ(b.qemu_pids().size(), 1U);
    EXPECT_EQ(b.vm(kVm)["state"], "running");
    a.signal(SIGCONT);
    expect_drained_by(command);
    EXPECT_GT(report()["postcopy"]["longest_stall_ms"], 2500);
}

// --- memory that is plugged in while pages are missing --------------------------------------

class PluggedIn : public DrainLab {
  protected:
    [[nodiscard]] std::string more_of_vm_file() const override {
        return "hotplug: {slots: 2, max_memory: 1GiB}\n";
    }
};

TEST_F(PluggedIn, DoesNotDisturbTheDrainAndIsNamedWhenTheVmIsToMoveOn) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.1)) << "too fast to be caught";
    ask_qemu(b, "object-add",
             {{"qom-type", "memory-backend-ram"}, {"id", "more"}, {"size", 128 << 20}});
    ask_qemu(b, "device_add", {{"driver", "pc-dimm"}, {"id", "dimm7"}, {"memdev", "more"}});
    EXPECT_GT(missing_at_b(), 0U) << "too late";
    expect_drained_by(command);
    expect_at_source(b, migrate(b, a.address()), {.words = {"dimm7", "unplug"}});
}

// --- a destination that may not catch faults ------------------------------------------------

TEST(WithoutUserfaultfd, ADestinationIsRefusedBeforeAnythingIsTouched) {
    int allowed = -1;
    std::ifstream("/proc/sys/vm/unprivileged_userfaultfd") >> allowed;
    if (allowed != 0) GTEST_SKIP() << "vm.unprivileged_userfaultfd is not 0 here";
    TestAgent a;
    TestAgent b({.wrapper = {"setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"}});
    start_guest(a, small_guest());
    const auto to_b = [&](const char* strategy) {
        return a.cli({"migrate", "vm", "--to", b.address(), "--json", "--downtime-limit", "500ms",
                      "--strategy", strategy});
    };
    expect_at_source(
        a, to_b("postcopy"),
        {.words = {"vm.unprivileged_userfaultfd=1", "CAP_SYS_PTRACE", "--strategy precopy"}});
    expect_nothing_left(b);
    const CommandResult moved = to_b("precopy");
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    expect_alive_and_well(b, "vm", 100);
}

}  // namespace
}  // namespace godwit::testing
