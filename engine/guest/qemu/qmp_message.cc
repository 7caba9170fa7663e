#include "engine/guest/qemu/qmp_message.h"

#include <fmt/format.h>

#include <algorithm>

namespace godwit {
namespace {

const Json* member(const Json& object, std::string_view key) {
    if (!object.is_object()) return nullptr;
    const auto found = object.find(std::string(key));
    return found == object.end() ? nullptr : &*found;
}

std::chrono::microseconds stamp_of(const Json& message) {
    const Json* stamp = member(message, "timestamp");
    if (stamp == nullptr) return {};
    // QEMU writes -1 when its clock failed; a wild number must not overflow below.
    const int64_t seconds =
        std::clamp<int64_t>(json_number(*stamp, "seconds"), 0, int64_t{1} << 40);
    const int64_t micros = std::clamp<int64_t>(json_number(*stamp, "microseconds"), 0, 999'999);
    return std::chrono::seconds(seconds) + std::chrono::microseconds(micros);
}

}  // namespace

std::string json_text(const Json& object, std::string_view key) {
    const Json* value = member(object, key);
    const std::string* text = value == nullptr ? nullptr : value->get_ptr<const std::string*>();
    return text == nullptr ? std::string() : *text;
}

int64_t json_number(const Json& object, std::string_view key) {
    const Json* value = member(object, key);
    // An unsigned number above the signed range is out of range for every field that we read.
    const int64_t* number = value == nullptr ? nullptr : value->get_ptr<const int64_t*>();
    return number == nullptr ? 0 : *number;
}

absl::StatusOr<QmpMessage> parse_qmp_line(std::string_view line) {
    const Json message = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (message.is_discarded() || !message.is_object())
        return absl::InternalError(
            fmt::format("QEMU wrote what is no QMP: {}", line.substr(0, 80)));
    if (member(message, "QMP") != nullptr) return QmpMessage(QmpGreeting{});
    if (member(message, "event") != nullptr) {
        const Json* data = member(message, "data");
        return QmpMessage(QmpEvent{.name = json_text(message, "event"),
                                   .data = data == nullptr ? Json() : *data,
                                   .stamp = stamp_of(message)});
    }
    QmpReply reply{.id = static_cast<uint64_t>(json_number(message, "id"))};
    if (const Json* value = member(message, "return")) {
        reply.value = *value;
        return QmpMessage(std::move(reply));
    }
    if (const Json* error = member(message, "error")) {
        reply.error_class = json_text(*error, "class");
        if (reply.error_class.empty()) reply.error_class = "GenericError";
        reply.error_text = json_text(*error, "desc");
        return QmpMessage(std::move(reply));
    }
    return absl::InternalError(
        fmt::format("QEMU wrote a message of no known kind: {}", line.substr(0, 80)));
}

absl::Status qmp_error(std::string_view command, const QmpReply& reply) {
    const auto code = reply.error_class == "CommandNotFound"
                          ? absl::StatusCode::kUnimplemented
                          : absl::StatusCode::kFailedPrecondition;
    return {code, fmt::format("{}: {}", command, reply.error_text)};
}

MonotonicTime stamp_to_monotonic(std::chrono::microseconds stamp,
                                 std::chrono::microseconds now_wall, MonotonicTime now) {
    const auto age = std::clamp<std::chrono::microseconds>(
        now_wall - stamp, std::chrono::microseconds::zero(), std::chrono::seconds(1));
    return now - age;
}

}  // namespace godwit
