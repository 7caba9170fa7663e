// VM files: YAML as people write it, and what is made of it for QEMU.
#include "engine/guest/vm_file/vm_file.h"

#include <string>

#include "engine/base/check.h"
#include "engine/guest/qemu/qemu_argv.h"
#include "engine/guest/qemu/resolve_spec.h"
#include "engine/guest/vm_file/validate_spec.h"
#include "tests/fuzz/target.h"

namespace godwit {
namespace {

// No text of a file becomes an option of its own: every argument of QEMU is where it always is.
void render(const v1::VmSpec& spec) {
    const auto resolved = resolve_spec(spec, true, {{"q35", "pc-q35-7.2"}});
    if (!resolved.ok()) return;
    QemuArgvInputs inputs{.program = "qemu", .serial_log = "/s", .qmp_fd = 7, .guard_fd = 8};
    for (size_t i = 0; i < ram_block_sizes(*resolved).size(); ++i) inputs.ram_files.push_back("/r");
    inputs.tap_fds.assign(static_cast<size_t>(resolved->nics_size()), -1);
    inputs.disk_is_device.assign(static_cast<size_t>(resolved->disks_size()), false);
    for (const std::string& argument : render_qemu_argv(*resolved, inputs))
        GODWIT_CHECK(argument.find('\0') == std::string::npos);
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    const std::string text(FuzzInputReader(data, size).text());
    const auto spec = parse_vm_file(text, "/vms/fuzz.yaml");
    if (!spec.ok()) {
        GODWIT_CHECK(spec.status().message().substr(0, 15) == "/vms/fuzz.yaml:");
        return 0;
    }
    GODWIT_CHECK(validate_spec(*spec).ok());
    GODWIT_CHECK(spec->memory_bytes() > 0 && spec->memory_bytes() <= kMaxMemoryBytes);
    GODWIT_CHECK(spec->vcpus() >= 1 && spec->vcpus() <= kMaxVcpus);
    render(*spec);
    return 0;
}
