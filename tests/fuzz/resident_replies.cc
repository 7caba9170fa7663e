// The agent's side of the resident's socket. The resident lives in QEMU: who has broken out of the
// guest writes what it says. All replies lie in the socket before the first request goes out.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "dirty-tracking/resident/resident_client.h"
#include "engine/base/check.h"
#include "tests/fuzz/target.h"

namespace godwit {
namespace {

using namespace resident;

constexpr size_t kMostReplies = 24;

// A reply's fields as the input has them; magic, version and length as they must be, unless
// `damage` says which must not.
void say(int socket, std::span<const std::byte> bytes, uint8_t damage) {
    std::vector<std::byte> message(bytes.begin(), bytes.end());
    if (message.size() >= sizeof(Header)) {
        Header header;
        std::memcpy(&header, message.data(), sizeof header);
        if ((damage & 1) == 0) header.magic = kMagic;
        if ((damage & 2) == 0) header.version = kProtocolVersion;
        if ((damage & 4) == 0) header.length = static_cast<uint32_t>(message.size());
        if ((damage & 8) == 0) header.code = Code::kOk;
        std::memcpy(message.data(), &header, sizeof header);
    }
    // What does not fit into the socket is not said.
    (void)::send(socket, message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

size_t length_of(uint8_t call) {
    static constexpr std::array<size_t, 8> kLengths{
        sizeof(StateReply), sizeof(ViewsReply), sizeof(SlotsReply), sizeof(Reply),
        sizeof(Reply),      sizeof(Reply),      sizeof(Reply),      sizeof(Reply)};
    return kLengths[call % kLengths.size()];
}

void call(ResidentClient& client, uint8_t which, const RamBlock& block) {
    switch (which % 8) {
        case 0:
            if (const auto state = client.state(); state.ok())
                GODWIT_CHECK(state->problem.size() <= kTextBytes);
            break;
        case 1:
            if (const auto views = client.views(); views.ok())
                GODWIT_CHECK(views->size() <= kMostReplies * kRowLimit);
            break;
        case 2:
            if (const auto slots = client.slots(); slots.ok())
                GODWIT_CHECK(slots->size() <= kMostReplies * kRowLimit);
            break;
        case 3:
            (void)client.start_log(std::span(&block, 1));
            break;
        case 4: {
            PageSet dirty{PageBitmap(block.page_count())};
            (void)client.collect(dirty);
            break;
        }
        case 5:
            (void)client.rearm(0, {1, 2});
            break;
        case 6:
            (void)client.stop_log();
            break;
        default:
            (void)client.set_throttle(20);
    }
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    int ends[2] = {-1, -1};
    GODWIT_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    UniqueFd ours(ends[0]);
    const UniqueFd theirs(ends[1]);
    FuzzInputReader input(data, size);
    const uint8_t greeting = input.u8();
    say(theirs.get(), input.bytes(sizeof(resident::Reply)), greeting);
    std::vector<uint8_t> calls;
    while (!input.empty() && calls.size() < kMostReplies) {
        const uint8_t which = input.u8();
        const uint8_t damage = input.u8();
        const size_t length = (damage & 0x80) != 0 ? input.u16() : length_of(which);
        say(theirs.get(), input.bytes(length), damage);
        calls.push_back(which);
    }
    ::shutdown(theirs.get(), SHUT_WR);
    auto client = ResidentClient::greet(std::move(ours), std::chrono::seconds(1));
    if (!client.ok()) return 0;
    RamBlock block;
    block.size = kChunkBytes;
    for (const uint8_t which : calls) call(**client, which, block);
    return 0;
}
