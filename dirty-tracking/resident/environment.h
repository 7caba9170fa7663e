// What the agent says to the resident when it starts QEMU, and hiding it from QEMU's children.
#pragma once

namespace godwit::resident {

// The listening socket that was inherited, now closed on exec; -1 when there is none.
int inherited_listener();

// A socket of our own at the path in the environment, which takes the place of one that an earlier
// QEMU left there; -1 when no path is given, or nobody can listen there.
int listener_at_path();

// Takes this library out of LD_PRELOAD and the socket's number and path out of the environment.
void hide_from_children();

}  // namespace godwit::resident
