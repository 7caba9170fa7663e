// The resident's one thread: answers the agent, and kicks throttled vCPUs.
#pragma once

namespace godwit::resident {

// `listener` is the inherited socket. False: there is no thread.
bool start_server(int listener);

// In a child that makes a VM of its own (QEMU's -daemonize): whether there is a thread again.
bool restart_server();

// In a child process.
void server_lost();

}  // namespace godwit::resident
