// A domain's XML, which at the destination comes from a peer.
#include "engine/guest/libvirt/domain_xml.h"

#include <string>

#include "engine/base/check.h"
#include "engine/guest/libvirt/enable.h"
#include "engine/guest/vm_file/validate_spec.h"
#include "tests/fuzz/target.h"

namespace godwit {
namespace {

// With our arguments and without them again is without them.
void change(const std::string& xml) {
    const auto waiting = with_incoming(xml);
    const auto plain = without_incoming(xml);
    GODWIT_CHECK(waiting.ok() == plain.ok());
    if (!waiting.ok()) return;
    GODWIT_CHECK(waiting->find("-incoming") != std::string::npos);
    const auto twice = with_incoming(*waiting);
    GODWIT_CHECK(!twice.ok() || *twice == *waiting);
}

void enable(const std::string& xml) {
    const auto enabled = enable_migration(xml);
    if (!enabled.ok()) return;
    GODWIT_CHECK(enable_migration(*enabled).ok());
    (void)disable_migration(*enabled);
    // It is for texts of hundreds of lines.
    if (enabled->size() < 4096) (void)line_diff(xml, *enabled);
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    const std::string xml(FuzzInputReader(data, size).text());
    const auto spec = spec_of_domain(xml);
    if (spec.ok()) {
        GODWIT_CHECK(!spec->name().empty() && !spec->uuid().empty());
        GODWIT_CHECK(spec->memory_bytes() <= kMaxMemoryBytes);
        (void)validate_spec(*spec);
    }
    (void)domain_problems(xml);
    (void)discarding_devices_of(xml);
    change(xml);
    enable(xml);
    return 0;
}
