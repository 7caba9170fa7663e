#include "engine/guest/qemu/resolve_spec.h"

#include <gtest/gtest.h>

#include "engine/guest/qemu/host_facts.h"
#include "engine/guest/vm_file/validate_spec.h"

namespace godwit {
namespace {

MachineTypes machines() {
    return parse_machine_help(
        "Supported machines are:\n"
        "pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n"
        "pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)\n"
        "q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n"
        "pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)\n"
        "pc-q35-6.2           Standard PC (Q35 + ICH9, 2009)\n");
}

v1::VmSpec spec() {
    v1::VmSpec made;
    made.set_name("demo");
    made.set_memory_bytes(64 << 20);
    return made;
}

TEST(ResolveSpec, MachineHelpNamesAliases) {
    EXPECT_EQ(machines().size(), 5U);
    EXPECT_EQ(machines().at("q35"), "pc-q35-7.2");
    EXPECT_EQ(machines().at("pc-q35-6.2"), "pc-q35-6.2");
}

TEST(ResolveSpec, EveryDefaultBecomesConcrete) {
    v1::VmSpec asked = spec();
    asked.add_nics();
    asked.add_nics()->set_mac("52:54:00:00:00:01");
    asked.add_disks()->set_path("/a");
    const auto resolved = resolve_spec(asked, /*has_kvm=*/true, machines());
    ASSERT_TRUE(resolved.ok()) << resolved.status();
    EXPECT_EQ(resolved->accel(), v1::ACCEL_KVM);
    EXPECT_EQ(resolved->cpu(), "host");
    EXPECT_EQ(resolved->machine(), "pc-q35-7.2");
    EXPECT_EQ(resolved->vcpus(), 1U);
    EXPECT_EQ(resolved->disks(0).format(), "raw");
    EXPECT_EQ(resolved->nics(1).mac(), "52:54:00:00:00:01");
    EXPECT_EQ(resolved->nics(0).mac().substr(0, 9), "52:54:00:");
    EXPECT_TRUE(validate_spec(*resolved).ok()) << validate_spec(*resolved);
    // Resolving what is resolved, at the destination, changes nothing.
    const auto again = resolve_spec(*resolved, true, machines());
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->SerializeAsString(), resolved->SerializeAsString());
}

TEST(ResolveSpec, WithoutKvmAutoIsTcgAndKvmIsRefused) {
    EXPECT_EQ(resolve_spec(spec(), false, machines())->accel(), v1::ACCEL_TCG);
    EXPECT_EQ(resolve_spec(spec(), false, machines())->cpu(), "max");
    v1::VmSpec asked = spec();
    asked.set_accel(v1::ACCEL_KVM);
    EXPECT_EQ(resolve_spec(asked, false, machines()).status().code(),
              absl::StatusCode::kFailedPrecondition);
}

TEST(ResolveSpec, AnUnknownMachineIsNamed) {
    v1::VmSpec asked = spec();
    asked.set_machine("pc-q35-99.0");
    const absl::Status status = resolve_spec(asked, true, machines()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("pc-q35-99.0"), std::string::npos);
}

TEST(HostFacts, TheVersionIsFoundInQemusWords) {
    EXPECT_EQ(parse_qemu_version("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"),
              "7.2.22");
    EXPECT_EQ(parse_qemu_version("QEMU emulator version 11.1.3\n"), "11.1.3");
    EXPECT_EQ(parse_qemu_version("bash 5"), "");
}

}  // namespace
}  // namespace godwit
