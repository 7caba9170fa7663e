// What QEMU writes on a QMP socket, line by line, and what its errors and stamps mean to us.
// Protocol: QEMU's docs/interop/qmp-spec.txt.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <variant>

#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

using Json = nlohmann::json;

struct QmpGreeting {};

struct QmpReply {
    uint64_t id = 0;
    Json value;               // the "return" member; null when it is an error
    std::string error_class;  // empty: no error
    std::string error_text;
};

struct QmpEvent {
    std::string name;
    Json data;
    std::chrono::microseconds stamp{};  // QEMU's wall clock
};

using QmpMessage = std::variant<QmpGreeting, QmpReply, QmpEvent>;

// Error: Internal when the line is no QMP message.
absl::StatusOr<QmpMessage> parse_qmp_line(std::string_view line);

// "<command>: <QEMU's words>". CommandNotFound is Unimplemented, everything else
// FailedPrecondition: NotFound is kept for a QEMU that is gone.
absl::Status qmp_error(std::string_view command, const QmpReply& reply);

// The monotonic time of a wall-clock stamp: now_mono - (now_wall - stamp), within the last second,
// so that a step of the wall clock can't move an event further than that.
MonotonicTime stamp_to_monotonic(std::chrono::microseconds stamp,
                                 std::chrono::microseconds now_wall, MonotonicTime now);

// JSON from outside this process; a discarded value when it is none, or deeper than kMaxJsonDepth:
// copying and writing a value recurse, and so would overflow the stack.
inline constexpr size_t kMaxJsonDepth = 64;  // QMP itself allows 1024 and uses a handful
Json parse_json(std::string_view text);

// The member `key` of an object as text (a number); empty (0) when it is absent, of another type,
// or beyond int64_t.
std::string json_text(const Json& object, std::string_view key);
int64_t json_number(const Json& object, std::string_view key);

}  // namespace godwit
