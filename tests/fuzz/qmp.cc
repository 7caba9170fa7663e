// What comes from a QMP socket: cut into lines wherever the reads ended, and what the messages say.
#include <algorithm>
#include <string>
#include <vector>

#include "engine/base/check.h"
#include "engine/guest/libvirt/domain_ram.h"
#include "engine/guest/qemu/qmp_lines.h"
#include "engine/guest/qemu/qmp_replies.h"
#include "engine/guest/qemu/vm_record.h"
#include "tests/fuzz/target.h"

namespace godwit {
namespace {

constexpr size_t kMostLineBytes = 1000;

struct Cut {
    std::vector<std::string> lines;
    bool ok = true;
    bool operator==(const Cut&) const = default;
};

Cut cut(std::string_view text, size_t read_bytes) {
    QmpLines lines(kMostLineBytes);
    Cut result;
    while (result.ok && !text.empty()) {
        const std::string_view part = text.substr(0, read_bytes);
        text.remove_prefix(part.size());
        result.ok = lines
                        .append(part,
                                [&](std::string_view line) {
                                    result.lines.emplace_back(line);
                                    return absl::OkStatus();
                                })
                        .ok();
        GODWIT_CHECK(lines.kept_bytes() <= kMostLineBytes);
    }
    for (const std::string& line : result.lines)
        GODWIT_CHECK(!line.empty() && line.size() <= kMostLineBytes &&
                     line.find('\n') == std::string::npos);
    return result;
}

void read_reply(const QmpReply& reply) {
    for (const pid_t thread : vcpu_threads_of(reply.value)) GODWIT_CHECK(thread > 0);
    (void)blocked_reasons_of(reply.value);
    for (const std::string& device : memory_devices_of(reply.value)) GODWIT_CHECK(!device.empty());
    (void)json_text(reply.value, "status");
    GODWIT_CHECK(!qmp_error("cont", reply).ok());
    const Json copy = reply.value;
    (void)copy.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void read_event(const QmpEvent& event) {
    const MonotonicTime now{std::chrono::seconds(1000)};
    const MonotonicTime at = stamp_to_monotonic(event.stamp, std::chrono::seconds(5000), now);
    GODWIT_CHECK(at <= now && now - at <= std::chrono::seconds(1));
    GODWIT_CHECK(event.stamp.count() >= 0);
    (void)json_text(event.data, "status");
    GODWIT_CHECK(json_number(event.data, "pass") >= 0 ||
                 event.data.dump(-1, ' ', false, Json::error_handler_t::replace).find('-') !=
                     std::string::npos);
}

void read_line(const std::string& line) {
    (void)memory_backends({"qemu", "-object", line});
    const auto message = parse_qmp_line(line);
    if (!message.ok()) return;
    if (const auto* reply = std::get_if<QmpReply>(&*message)) read_reply(*reply);
    if (const auto* event = std::get_if<QmpEvent>(&*message)) read_event(*event);
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    FuzzInputReader input(data, size);
    const size_t read_bytes = 1 + input.u8();
    const std::string text(input.text());
    const Cut whole = cut(text, std::max<size_t>(text.size(), 1));
    GODWIT_CHECK(cut(text, read_bytes) == whole);
    for (const std::string& line : whole.lines) read_line(line);
    (void)parse_record(text);
    return 0;
}
