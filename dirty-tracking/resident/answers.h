// Requests of the agent, and the replies to them.
#pragma once

#include <cstddef>

#include "dirty-tracking/resident/protocol.h"

namespace godwit::resident {

// Holds any message that is received or sent.
union Message {
    Header header;
    Request request;
    ListRequest list;
    StartRequest start;
    ClearRequest clear;
    ThrottleRequest throttle;
    Reply reply;
    StateReply state;
    ViewsReply views;
    SlotsReply slots;

    Message() : start{} {}
};

// Answers `request` (of `length` bytes, with the descriptor `memory` or -1) in `reply`. False: the
// connection is to be closed after the reply.
bool answer(const Message& request, size_t length, int memory, Message& reply);

// The first message of a connection.
void greet(Message& reply, Code code, const char* text);

// The agent has gone: no log, no throttle.
void let_go();

}  // namespace godwit::resident
