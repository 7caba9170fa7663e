// What the agent says to the resident when it starts QEMU, and hiding it from QEMU's children.
#pragma once

namespace godwit::resident {

// The listening socket that was inherited, now closed on exec; -1 when there is none.
int inherited_listener();

// Takes this library out of LD_PRELOAD and the socket's number out of the environment.
void hide_from_children();

}  // namespace godwit::resident
