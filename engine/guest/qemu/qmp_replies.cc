#include "engine/guest/qemu/qmp_replies.h"

#include <limits>

namespace godwit {

std::vector<pid_t> vcpu_threads_of(const Json& reply) {
    std::vector<pid_t> threads;
    if (!reply.is_array()) return threads;
    for (const Json& cpu : reply) {
        const int64_t thread = json_number(cpu, "thread-id");
        if (thread > 0 && thread <= std::numeric_limits<pid_t>::max())
            threads.push_back(static_cast<pid_t>(thread));
    }
    return threads;
}

std::vector<std::string> blocked_reasons_of(const Json& reply) {
    std::vector<std::string> reasons;
    const auto blocked = reply.is_object() ? reply.find("blocked-reasons") : reply.end();
    if (blocked == reply.end() || !blocked->is_array()) return reasons;
    for (const Json& reason : *blocked)
        if (const auto* text = reason.get_ptr<const std::string*>()) reasons.push_back(*text);
    return reasons;
}

std::vector<std::string> memory_devices_of(const Json& reply) {
    std::vector<std::string> names;
    if (!reply.is_array()) return names;
    for (const Json& device : reply) {
        const auto data = device.is_object() ? device.find("data") : device.end();
        std::string name;
        for (const char* key : {"id", "memdev"})
            if (name.empty() && data != device.end()) name = json_text(*data, key);
        if (name.empty()) name = "a memory device";
        names.push_back(std::move(name));
    }
    return names;
}

}  // namespace godwit
