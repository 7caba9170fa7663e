// What the agent and the resident say to each other: fixed-size messages on a unix SOCK_SEQPACKET
// socket, little-endian, of the same machine. No C++ library is needed to read this header.
//
//   agent                                   resident
//     connect ───────────────────────────────►
//     ◄─────────────────────── Reply (greeting): kOk, or kBusy and closed
//     request ───────────────────────────────►
//     ◄─────────────────────────────────────── its reply; always one for one
//
// A message of another version, of a wrong length or kind gets kVersion or kBadMessage and the
// connection is closed. Three connections are served: for the log, the throttle, and a tracker that
// takes the place of the one that has the log. There is one log and one throttle: while they are
// on, they belong to the connection that began them, and end with it, whoever closed it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace godwit::resident {

inline constexpr uint32_t kMagic = 0x74777764;
inline constexpr uint16_t kProtocolVersion = 1;

inline constexpr const char* kLibraryName = "libgodwit-resident.so";
// The inherited listening socket's number.
inline constexpr const char* kSocketVariable = "GODWIT_RESIDENT_FD";
// Where nothing can be inherited (libvirt starts QEMU): the path at which the resident is to
// listen.
inline constexpr const char* kPathVariable = "GODWIT_RESIDENT_SOCKET";

// A VM has a block for each NUMA node or DIMM; QEMU itself allows 256 DIMMs, nobody uses them.
inline constexpr uint32_t kBlockLimit = 64;
// Rows of one reply to a list request.
inline constexpr uint32_t kRowLimit = 16;
inline constexpr uint32_t kTextBytes = 120;
inline constexpr uint32_t kMaxHeldPercent = 99;
inline constexpr uint32_t kMinPeriodMs = 10;
inline constexpr uint32_t kMaxPeriodMs = 60'000;
inline constexpr uint64_t kPageSize = 4096;

enum class Kind : uint16_t {
    kGreeting = 1,
    kState = 2,
    kViews = 3,
    kSlots = 4,
    kStart = 5,
    kCollect = 6,
    kClear = 7,
    kStop = 8,
    kThrottle = 9,
};

enum class Code : uint32_t {
    kOk = 0,
    kBusy = 1,        // other connections are there, or have what was asked for
    kVersion = 2,     // the message was of another protocol version
    kBadMessage = 3,  // not understood, or its numbers make no sense; `text` says which
    kProblem = 4,     // the log can't be used, or had to be stopped; `text` says why
    kNotStarted = 5,  // there is no log
};

struct Header {
    uint32_t magic = kMagic;
    uint16_t version = kProtocolVersion;
    Kind kind = Kind::kGreeting;
    uint32_t length = 0;  // of the whole message
    Code code = Code::kOk;
};

// Also the whole request of kState, kCollect, kStop.
struct Request {
    Header header;
};

// kViews, kSlots: the rows from `first` on.
struct ListRequest {
    Header header;
    uint32_t first = 0;
    uint32_t padding = 0;
};

struct BlockRow {
    uint64_t device = 0;  // st_dev
    uint64_t inode = 0;
    uint64_t page_count = 0;
    uint64_t bitmap_offset = 0;  // in the shared memory, a multiple of 8
};

inline constexpr uint32_t kDiscardsOnly = 1;

// With one descriptor: a memfd, sealed against shrinking, that holds one bitmap for each block
// (a bit per 4 KiB page of the file, page 0 in bit 0 of word 0). The resident sets bits by atomic
// OR, the agent takes words by atomic exchange.
struct StartRequest {
    Header header;
    uint32_t block_count = 0;
    uint32_t flags = 0;
    BlockRow blocks[kBlockLimit];
};

// Clears what the last kCollect took of these pages of the block's file, which arms them again.
struct ClearRequest {
    Header header;
    uint32_t block = 0;
    uint32_t padding = 0;
    uint64_t begin_page = 0;
    uint64_t end_page = 0;
};

struct ThrottleRequest {
    Header header;
    uint32_t held_percent = 0;  // 0: off
    uint32_t period_ms = kMinPeriodMs;
};

// The greeting, and the reply to kStart, kCollect, kClear, kStop, kThrottle.
struct Reply {
    Header header;
    char text[kTextBytes] = {};  // ends with a zero
};

struct StateReply {
    Header header;
    char text[kTextBytes] = {};
    uint8_t has_kvm = 0;
    uint8_t manual_protect = 0;
    uint8_t initially_set = 0;
    uint8_t dirty_ring = 0;
    uint8_t log_on = 0;
    uint8_t held_percent = 0;
    uint8_t padding[2] = {};
    uint32_t slots = 0;
    uint32_t tracked_slots = 0;
    uint32_t unmappable_slots = 0;
    uint32_t vcpus = 0;
    uint64_t holds = 0;  // times that a vCPU was held back
    uint64_t kicks = 0;  // times that one was made to leave the guest for it
};

struct ViewRow {
    uint64_t device = 0;
    uint64_t inode = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    uint64_t kvm_address = 0;
    uint64_t qemu_address = 0;
};

enum class SlotKind : uint32_t {
    kNotRam = 0,      // private memory, a ROM, video RAM: QEMU's own business
    kSplit = 1,       // KVM has view A
    kUnmappable = 2,  // RAM, but not in one piece of one file: KVM has QEMU's own view
    kRefused = 3,     // the kernel took QEMU's own view only
};

struct SlotRow {
    uint32_t id = 0;  // address space in the upper 16 bits
    uint32_t flags = 0;
    SlotKind kind = SlotKind::kNotRam;
    uint32_t tracked = 0;
    uint64_t guest_address = 0;
    uint64_t length = 0;
    uint64_t device = 0;  // the file's, for kSplit
    uint64_t inode = 0;
    uint64_t offset = 0;
};

template <typename Row>
struct ListReply {
    Header header;
    char text[kTextBytes] = {};
    uint32_t total = 0;  // rows there are
    uint32_t count = 0;  // rows in this reply
    Row rows[kRowLimit];
};

using ViewsReply = ListReply<ViewRow>;
using SlotsReply = ListReply<SlotRow>;

static_assert(sizeof(Header) == 16);
static_assert(sizeof(StartRequest) == 24 + kBlockLimit * sizeof(BlockRow));
static_assert(sizeof(StateReply) == 176);
static_assert(std::is_trivially_copyable_v<SlotsReply> && std::is_trivially_copyable_v<ViewsReply>);

}  // namespace godwit::resident
