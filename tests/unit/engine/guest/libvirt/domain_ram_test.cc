#include "engine/guest/libvirt/domain_ram.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace godwit {
namespace {

TEST(MemoryBackends, AreReadFromQemusArguments) {
    const auto backends = memory_backends(
        {"qemu", "-object", R"({"qom-type":"secret","id":"masterKey0"})", "-object",
         R"({"qom-type":"memory-backend-file","id":"pc.ram","mem-path":"/r/1-vm/pc.ram","share":true})",
         "-object", R"({"qom-type":"memory-backend-ram","id":"ram-node0","size":1})", "-object",
         "memory-backend-file,id=old", "-object", "[1]", "-object"});
    ASSERT_EQ(backends.size(), 2U);
    EXPECT_EQ(backends[0].id, "pc.ram");
    EXPECT_EQ(backends[0].path, "/r/1-vm/pc.ram");
    EXPECT_TRUE(backends[0].is_shared);
    EXPECT_EQ(backends[1].type, "memory-backend-ram");
    EXPECT_FALSE(backends[1].is_shared);
}

TEST(DomainRam, OfAProcessWithoutAnyIsPrivate) {
    const auto ram = open_domain_ram(::getpid());
    ASSERT_TRUE(ram.ok());
    EXPECT_TRUE(ram->blocks.empty());
    ASSERT_EQ(ram->problems.size(), 1U);
    EXPECT_NE(ram->problems[0].find("<access mode='shared'/>"), std::string::npos);
}

TEST(DomainRam, OfAProcessThatHasEndedIsNotFound) {
    EXPECT_TRUE(absl::IsNotFound(open_domain_ram(0x7FFFFFFF).status()));
}

}  // namespace
}  // namespace godwit
