// An agent that talks nonsense: it is told so and dropped, and the process that hosts the resident
// goes on as before.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <random>

#include "engine/base/wait.h"
#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

using namespace resident;

class RawAgent {
  public:
    explicit RawAgent(const std::string& path)
        : socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(
            ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
        EXPECT_EQ(receive(), Code::kOk);
    }

    bool send(const void* data, size_t bytes, const std::vector<int>& descriptors = {}) {
        iovec part{const_cast<void*>(data), bytes};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(16 * sizeof(int))> control{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (!descriptors.empty()) {
            message.msg_control = control.data();
            message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
            cmsghdr* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
            std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size() * sizeof(int));
        }
        return ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
    }
    template <typename Body>
    Code ask(const Body& body, const std::vector<int>& descriptors = {}) {
        EXPECT_TRUE(send(&body, sizeof body, descriptors));
        return receive();
    }
    // The code of the next message; kNotStarted stands for a closed connection.
    Code receive() {
        std::array<char, 8192> reply{};
        const auto limit = Clock::system().now() + std::chrono::seconds(10);
        EXPECT_TRUE(wait_readable(socket_.get(), -1, limit).ok());
        const ssize_t got = ::recv(socket_.get(), reply.data(), reply.size(), 0);
        if (got < static_cast<ssize_t>(sizeof(Header))) return Code::kNotStarted;
        Header header;
        std::memcpy(&header, reply.data(), sizeof header);
        return header.code;
    }
    bool is_closed() { return receive() == Code::kNotStarted; }

  private:
    UniqueFd socket_;
};

UniqueFd make_memory(off_t bytes, int seals) {
    UniqueFd memory(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(::ftruncate(memory.get(), bytes), 0);
    EXPECT_EQ(::fcntl(memory.get(), F_ADD_SEALS, seals), 0);
    return memory;
}

class ResidentHostile : public ResidentTest {
  protected:
    void start() {
        ASSERT_NO_FATAL_FAILURE(start_target());
        ASSERT_EQ(target_->slot(1, kGuestPage, 0, {0, 1024}), "fine");
        files_before_ = open_files();
        client_.reset();
    }
    RawAgent agent() { return RawAgent(target_->socket_path); }
    StartRequest start_request() {
        StartRequest request{};
        request.header = {.kind = Kind::kStart, .length = sizeof request};
        request.block_count = 1;
        request.blocks[0] = {target_->blocks[0].device, target_->blocks[0].inode, 1024, 0};
        return request;
    }
    // Expects the refusal, and that a sane agent is served afterwards.
    void expect_refused(const StartRequest& request, const std::vector<int>& descriptors,
                        const char* what) {
        RawAgent bad = agent();
        const Code code = bad.ask(request, descriptors);
        EXPECT_TRUE(code == Code::kBadMessage || code == Code::kProblem)
            << what << ": " << static_cast<int>(code);
    }
    void expect_all_is_well() {
        ASSERT_NO_FATAL_FAILURE(connect());
        ASSERT_NO_FATAL_FAILURE(start_log());
        EXPECT_EQ(write({1, 900}), "fine");
        EXPECT_EQ(collect(), (Pages{1, 900}));
        client_.reset();
        ASSERT_NO_FATAL_FAILURE(connect());
        EXPECT_EQ(open_files(), files_before_) << "a descriptor was left open";
    }
    [[nodiscard]] size_t open_files() const {
        return static_cast<size_t>(std::stoul(target_->tell("open-files")));
    }
    size_t files_before_ = 0;
};

TEST_F(ResidentHostile, WrongLengthsMagicAndKindsAreAnsweredAndDropped) {
    ASSERT_NO_FATAL_FAILURE(start());
    Request request{};
    request.header = {.kind = Kind::kCollect, .length = sizeof request};
    for (const size_t bytes : {size_t{1}, size_t{15}, sizeof request - 1}) {
        RawAgent bad = agent();
        EXPECT_TRUE(bad.send(&request, bytes));
        EXPECT_EQ(bad.receive(), Code::kBadMessage);
        EXPECT_TRUE(bad.is_closed());
    }
    const std::vector<char> huge(200'000, 'x');
    std::vector<char> long_request(sizeof(StartRequest) + 4096);
    std::memcpy(long_request.data(), &request, sizeof request);
    for (const std::vector<char>& bytes : {huge, long_request}) {
        RawAgent bad = agent();
        if (!bad.send(bytes.data(), bytes.size())) continue;
        EXPECT_EQ(bad.receive(), Code::kBadMessage);
        EXPECT_TRUE(bad.is_closed());
    }
    for (const unsigned kind : {0u, 1u, 10u, 65535u}) {
        request.header.kind = static_cast<Kind>(kind);
        EXPECT_EQ(agent().ask(request), Code::kBadMessage);
    }
    request.header = {.magic = 1, .kind = Kind::kCollect, .length = sizeof request};
    EXPECT_EQ(agent().ask(request), Code::kBadMessage);
    request.header = {.version = 9, .kind = Kind::kCollect, .length = sizeof request};
    EXPECT_EQ(agent().ask(request), Code::kVersion);
    ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
}

TEST_F(ResidentHostile, MemoryThatIsNoneIsRefused) {
    ASSERT_NO_FATAL_FAILURE(start());
    const StartRequest request = start_request();
    const UniqueFd unsealed = make_memory(4096, 0);
    const UniqueFd fine = make_memory(4096, F_SEAL_SHRINK);
    const UniqueFd empty = make_memory(0, F_SEAL_SHRINK);
    const UniqueFd great = make_memory(off_t{1} << 40, F_SEAL_SHRINK);
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const UniqueFd directory(::open("/", O_RDONLY | O_CLOEXEC));
    const UniqueFd read_only(
        ::open(("/proc/self/fd/" + std::to_string(fine.get())).c_str(), O_RDONLY | O_CLOEXEC));
    expect_refused(request, {}, "none");
    expect_refused(request, {unsealed.get()}, "not sealed");
    expect_refused(request, {empty.get()}, "empty");
    expect_refused(request, {great.get()}, "a terabyte");
    expect_refused(request, {null.get()}, "/dev/null");
    expect_refused(request, {directory.get()}, "a directory");
    expect_refused(request, {target_->blocks[0].file.get()}, "the RAM file itself");
    expect_refused(request, {read_only.get()}, "read-only");
    // Descriptors that nobody asked for are closed.
    std::vector<int> many(16, null.get());
    expect_refused(request, many, "many");
    ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
}

TEST_F(ResidentHostile, AbsurdBlockTablesAreRefused) {
    ASSERT_NO_FATAL_FAILURE(start());
    const UniqueFd memory = make_memory(4096, F_SEAL_SHRINK);
    const auto try_with = [&](const char* what, auto&& change) {
        StartRequest request = start_request();
        change(request);
        expect_refused(request, {memory.get()}, what);
    };
    try_with("no block", [](StartRequest& r) { r.block_count = 0; });
    try_with("65 blocks", [](StartRequest& r) { r.block_count = 65; });
    try_with("many blocks", [](StartRequest& r) { r.block_count = 0xffffffff; });
    try_with("no pages", [](StartRequest& r) { r.blocks[0].page_count = 0; });
    try_with("pages of a great file", [](StartRequest& r) { r.blocks[0].page_count = 32768; });
    try_with("all pages", [](StartRequest& r) { r.blocks[0].page_count = ~uint64_t{0}; });
    try_with("far", [](StartRequest& r) { r.blocks[0].bitmap_offset = 4096 - 64; });
    try_with("too far", [](StartRequest& r) { r.blocks[0].bitmap_offset = ~uint64_t{7}; });
    try_with("between words", [](StartRequest& r) { r.blocks[0].bitmap_offset = 3; });
    try_with("another file", [](StartRequest& r) { r.blocks[0].inode = 1; });
    try_with("twice", [](StartRequest& r) {
        r.block_count = 2;
        r.blocks[1] = r.blocks[0];
    });
    ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
}

TEST_F(ResidentHostile, AbsurdRangesAndThrottlesAreRefused) {
    ASSERT_NO_FATAL_FAILURE(start());
    const UniqueFd memory = make_memory(4096, F_SEAL_SHRINK);
    const auto clear = [&](uint32_t block, uint64_t begin, uint64_t end) {
        RawAgent bad = agent();
        EXPECT_EQ(bad.ask(start_request(), {memory.get()}), Code::kOk);
        ClearRequest request{};
        request.header = {.kind = Kind::kClear, .length = sizeof request};
        request.block = block;
        request.begin_page = begin;
        request.end_page = end;
        return bad.ask(request);
    };
    EXPECT_EQ(clear(1, 0, 1), Code::kBadMessage);
    EXPECT_EQ(clear(0xffffffff, 0, 1), Code::kBadMessage);
    EXPECT_EQ(clear(0, 0, 1025), Code::kBadMessage);
    EXPECT_EQ(clear(0, 0, ~uint64_t{0}), Code::kBadMessage);
    EXPECT_EQ(clear(0, ~uint64_t{0}, 5), Code::kOk);  // empty
    EXPECT_EQ(clear(0, 7, 7), Code::kOk);
    ThrottleRequest throttle{};
    throttle.header = {.kind = Kind::kThrottle, .length = sizeof throttle};
    for (const auto& [percent, period] : {std::pair{100u, 10u}, {50u, 0u}, {50u, 0xffffffffu}}) {
        throttle.held_percent = percent;
        throttle.period_ms = period;
        EXPECT_EQ(agent().ask(throttle), Code::kBadMessage);
    }
    ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
}

TEST_F(ResidentHostile, BitmapsThatAreTornAwayHurtNobody) {
    ASSERT_NO_FATAL_FAILURE(start());
    const UniqueFd memory = make_memory(4096, F_SEAL_SHRINK);
    {
        RawAgent bad = agent();
        EXPECT_EQ(bad.ask(start_request(), {memory.get()}), Code::kOk);
        EXPECT_NE(::ftruncate(memory.get(), 0), 0);
        EXPECT_EQ(::fallocate(memory.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
                  0);
        EXPECT_EQ(write({5}), "fine");
        Request request{};
        request.header = {.kind = Kind::kCollect, .length = sizeof request};
        EXPECT_EQ(bad.ask(request), Code::kOk);
    }
    ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
}

TEST_F(ResidentHostile, AnAgentThatNeverReadsIsDropped) {
    ASSERT_NO_FATAL_FAILURE(start());
    {
        RawAgent bad = agent();
        ListRequest request{};
        request.header = {.kind = Kind::kSlots, .length = sizeof request};
        for (int i = 0; i < 2000 && bad.send(&request, sizeof request); ++i) {
        }
    }
    ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
}

TEST_F(ResidentHostile, RandomBytesAreSurvived) {
    ASSERT_NO_FATAL_FAILURE(start());
    const UniqueFd memory = make_memory(4096, F_SEAL_SHRINK);
    std::mt19937_64 random(4711);
    for (int i = 0; i < 300; ++i) {
        RawAgent bad = agent();
        StartRequest request = start_request();
        auto* bytes = reinterpret_cast<unsigned char*>(&request);
        const uint64_t changes = 1 + random() % 4;
        for (uint64_t j = 0; j < changes; ++j) bytes[random() % 80] = random() & 0xff;
        size_t length = sizeof request;
        if (random() % 4 == 0) length = request.header.length = 16 + random() % 64;
        EXPECT_TRUE(bad.send(bytes, length, {memory.get()}));
        bad.receive();
    }
    ASSERT_NO_FATAL_FAILURE(expect_all_is_well());
}

}  // namespace
}  // namespace godwit
