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

// For the log, the throttle, and the tracker that takes the place of the one that has the log: who
// uses them need not know of each other.
inline constexpr int kConnectionLimit = 3;

// Answers `request` (of `length` bytes, with the descriptor `memory` or -1) of the connection
// `client` in `reply`. False: the connection is to be closed after the reply.
bool answer(const Message& request, size_t length, int memory, int client, Message& reply);

// The first message of a connection.
void greet(Message& reply, Code code, const char* text);

// The connection has gone, and with it the log and the throttle that were its own.
void let_go(int client);

}  // namespace godwit::resident
