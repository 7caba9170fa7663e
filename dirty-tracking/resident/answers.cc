#include "dirty-tracking/resident/answers.h"

#include <algorithm>
#include <cstdio>

#include "dirty-tracking/resident/kvm_log.h"
#include "dirty-tracking/resident/log_start.h"
#include "dirty-tracking/resident/state.h"
#include "dirty-tracking/resident/vcpus.h"

namespace godwit::resident {
namespace {

// The connections whose log and whose throttle it is; one that has ended may still be named. Used
// by the resident's thread alone.
int g_log_client = -1;
int g_throttle_client = -1;

bool has_log(int client) { return g_state.log.on && g_log_client == client; }
bool has_throttle(int client) { return throttle_percent() != 0 && g_throttle_client == client; }

// Only what is sent has to be written, and the text's first byte.
template <typename Body>
Body& begin(Body& reply, Kind kind, Code code, const char* text) {
    reply.header = {.kind = kind, .length = sizeof(Body), .code = code};
    snprintf(reply.text, sizeof reply.text, "%s", text);
    return reply;
}

template <typename Row>
ListReply<Row>& begin_list(ListReply<Row>& reply, Kind kind) {
    reply.total = reply.count = 0;
    return begin(reply, kind, Code::kOk, "");
}

void answer_state(StateReply& reply) {
    reply = {};
    const char* problem = log_problem();
    begin(reply, Kind::kState, Code::kOk, problem != nullptr ? problem : "");
    reply.has_kvm = g_state.vm >= 0;
    reply.manual_protect = g_state.manual_protect;
    reply.initially_set = g_state.initially_set;
    reply.dirty_ring = g_state.dirty_ring;
    reply.log_on = g_state.log.on;
    reply.held_percent = static_cast<uint8_t>(throttle_percent());
    for (uint32_t i = 0; i < g_state.slot_end; ++i) {
        const Slot& slot = g_state.slots[i];
        if (!slot.used) continue;
        ++reply.slots;
        if (slot.block >= 0) ++reply.tracked_slots;
        if (slot.kind == SlotKind::kUnmappable) ++reply.unmappable_slots;
    }
    const uint32_t vcpus = g_state.vcpu_count.load();
    for (uint32_t i = 0; i < vcpus; ++i)
        if (g_state.vcpus[i].fd.load() >= 0) ++reply.vcpus;
    reply.holds = hold_count();
    reply.kicks = kick_count();
}

template <typename Row>
void add_row(ListReply<Row>& reply, uint32_t first, const Row& row) {
    const uint32_t at = reply.total++;
    if (at >= first && reply.count < kRowLimit) reply.rows[reply.count++] = row;
}

void answer_views(const ListRequest& request, ViewsReply& reply) {
    begin_list(reply, Kind::kViews);
    for (const View& view : g_state.views) {
        const uint64_t length = view.length.load();
        if (length != 0)
            add_row(reply, request.first,
                    {view.device, view.inode, view.offset, length, view.kvm_address,
                     view.qemu_address});
    }
}

void answer_slots(const ListRequest& request, SlotsReply& reply) {
    begin_list(reply, Kind::kSlots);
    for (uint32_t i = 0; i < g_state.slot_end; ++i) {
        const Slot& slot = g_state.slots[i];
        if (slot.used)
            add_row(reply, request.first,
                    {slot.id, slot.qemu_flags, slot.kind, slot.block >= 0 ? 1u : 0u,
                     slot.guest_address, slot.length, slot.device, slot.inode, slot.offset});
    }
}

// With a log of its own on: work() says whether it went well.
template <typename Work>
void answer_log(Reply& reply, Kind kind, int client, Work&& work) {
    const bool others = g_state.log.on && !has_log(client);
    if (has_log(client) && work()) {
        begin(reply, kind, Code::kOk, "");
    } else if (!others && g_state.problem[0] != 0) {
        begin(reply, kind, Code::kProblem, g_state.problem);
    } else {
        begin(reply, kind, Code::kNotStarted, "there is no log");
    }
}

bool answer_clear(const ClearRequest& request, int client, Reply& reply) {
    const Log& log = g_state.log;
    if (has_log(client) && (request.block >= log.block_count ||
                            request.end_page > log.blocks[request.block].page_count)) {
        begin(reply, Kind::kClear, Code::kBadMessage, "pages that are in no block");
        return false;
    }
    answer_log(reply, Kind::kClear, client,
               [&] { return clear_log(request.block, request.begin_page, request.end_page); });
    return true;
}

bool answer_throttle(const ThrottleRequest& request, int client, Reply& reply) {
    const bool fine = request.held_percent <= kMaxHeldPercent &&
                      request.period_ms >= kMinPeriodMs && request.period_ms <= kMaxPeriodMs;
    if (!fine) {
        begin(reply, Kind::kThrottle, Code::kBadMessage, "a percentage or period out of bounds");
    } else if (g_state.vm < 0) {
        begin(reply, Kind::kThrottle, Code::kProblem, "the VM does not run under KVM");
    } else if (throttle_percent() != 0 && !has_throttle(client)) {
        begin(reply, Kind::kThrottle, Code::kBusy, "another agent holds the vCPUs back");
    } else {
        g_throttle_client = client;
        set_throttle(request.held_percent, request.period_ms);
        begin(reply, Kind::kThrottle, Code::kOk, "");
    }
    return fine;
}

bool answer_start(const StartRequest& request, int memory, int client, Reply& reply) {
    if (g_state.log.on && !has_log(client)) {
        begin(reply, Kind::kStart, Code::kBusy, "another agent has the log");
        return true;
    }
    g_log_client = client;
    char text[kTextBytes] = {};
    const Code code = start_log(request, memory, text);
    begin(reply, Kind::kStart, code, text);
    return code != Code::kBadMessage;
}

void answer_stop(int client, Reply& reply) {
    if (has_log(client)) stop_log();
    begin(reply, Kind::kStop, Code::kOk, "");
}

size_t length_of(Kind kind) {
    switch (kind) {
        case Kind::kViews:
        case Kind::kSlots:
            return sizeof(ListRequest);
        case Kind::kStart:
            return sizeof(StartRequest);
        case Kind::kClear:
            return sizeof(ClearRequest);
        case Kind::kThrottle:
            return sizeof(ThrottleRequest);
        case Kind::kState:
        case Kind::kCollect:
        case Kind::kStop:
            return sizeof(Request);
        case Kind::kGreeting:
            break;
    }
    return 0;
}

}  // namespace

void greet(Message& reply, Code code, const char* text) {
    begin(reply.reply, Kind::kGreeting, code, text);
}

bool answer(const Message& request, size_t length, int memory, int client, Message& reply) {
    const Header& header = request.header;
    if (length < sizeof(Header) || header.magic != kMagic) {
        greet(reply, Code::kBadMessage, "no message of this protocol");
        return false;
    }
    if (header.version != kProtocolVersion) {
        greet(reply, Code::kVersion, "another protocol version");
        return false;
    }
    if (length != length_of(header.kind) || header.length != length) {
        greet(reply, Code::kBadMessage, "a message of a wrong kind or length");
        return false;
    }
    const Guard guard(g_state.lock);
    switch (header.kind) {
        case Kind::kState:
            answer_state(reply.state);
            return true;
        case Kind::kViews:
            answer_views(request.list, reply.views);
            return true;
        case Kind::kSlots:
            answer_slots(request.list, reply.slots);
            return true;
        case Kind::kStart:
            return answer_start(request.start, memory, client, reply.reply);
        case Kind::kCollect:
            answer_log(reply.reply, Kind::kCollect, client, collect_log);
            return true;
        case Kind::kClear:
            return answer_clear(request.clear, client, reply.reply);
        case Kind::kThrottle:
            return answer_throttle(request.throttle, client, reply.reply);
        case Kind::kStop:
        case Kind::kGreeting:
            break;
    }
    answer_stop(client, reply.reply);
    return true;
}

void let_go(int client) {
    if (has_throttle(client)) set_throttle(0, 0);
    const Guard guard(g_state.lock);
    if (has_log(client)) stop_log();
}

}  // namespace godwit::resident
