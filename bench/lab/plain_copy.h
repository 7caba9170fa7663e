// The plainest way to bring the bytes of a RAM file to another one: what any transport is measured
// against.
#pragma once

#include "bench/lab/engine.h"
#include "bench/lab/statistics.h"

namespace godwit {

// Copies `size` bytes from a RAM file on huge tmpfs into a fresh one, over two TCP connections: on
// either side two threads, pread and send here, recv and pwrite there; no framing, no check. The
// source's file is filled before; the time runs from before the connecting to the last byte. Both
// files are gone afterwards. Returns total_ms, wire_bytes and cpu_s with its parts. Errors: those
// of files and sockets; Cancelled; Unimplemented over another link than loopback.
absl::StatusOr<Metrics> plain_copy(const LabSetup& setup, Bytes size);

}  // namespace godwit
