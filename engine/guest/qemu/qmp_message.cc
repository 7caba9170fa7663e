#include "engine/guest/qemu/qmp_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

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

bool is_too_deep(std::string_view text) {
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (quoted) {
            if (c == '\\') ++i;
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            if (++depth > kMaxJsonDepth) return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            --depth;
        }
    }
    return false;
}

}  // namespace

Json parse_json(std::string_view text) {
    if (is_too_deep(text)) return Json(Json::value_t::discarded);
    return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::string json_text(const Json& object, std::string_view key) {
    const Json* value = member(object, key);
    const std::string* text = value == nullptr ? nullptr : value->get_ptr<const std::string*>();
    return text == nullptr ? std::string() : *text;
}

int64_t json_number(const Json& object, std::string_view key) {
    const Json* value = member(object, key);
    if (value == nullptr || !value->is_number_integer()) return 0;
    // Out of range for every field that we read.
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
    if (value->is_number_unsigned() && value->get<uint64_t>() > kMost) return 0;
    return value->get<int64_t>();
}

absl::StatusOr<QmpMessage> parse_qmp_line(std::string_view line) {
    const Json message = parse_json(line);
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
