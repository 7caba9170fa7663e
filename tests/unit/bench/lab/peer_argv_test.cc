#include "bench/lab/peer_argv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/lab/peer.h"

namespace godwit {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

PeerSetup setup() {
    return {.program = "/usr/bin/qemu",
            .guest = {.memory = Bytes{1} << 30,
                      .working_set = Bytes{256} << 20,
                      .writes_per_s = 20000,
                      .seed = 7,
                      .kvm = true,
                      .cpu = "host",
                      .kernel = "/bin/guest.elf"},
            .qmp_fd = 9};
}

// The word after `option`.
std::string value_of(const std::vector<std::string>& argv, const std::string& option) {
    for (size_t i = 0; i + 1 < argv.size(); ++i)
        if (argv[i] == option) return argv[i + 1];
    return "none";
}

TEST(PeerArgv, PrivateRamIsWhatQemuTakesByItself) {
    const auto argv = peer_argv(setup());
    EXPECT_EQ(value_of(argv, "-machine"), "q35,accel=kvm");
    EXPECT_EQ(value_of(argv, "-m"), "size=1024M");
    EXPECT_THAT(argv, Not(Contains("-object")));
    EXPECT_THAT(argv, Not(Contains("-incoming")));
    EXPECT_THAT(argv, Not(Contains("-S")));
    EXPECT_EQ(value_of(argv, "-chardev"), "socket,id=qmp,fd=9");
}

TEST(PeerArgv, SharedRamIsTheFileAndTheMachineUsesIt) {
    PeerSetup shared = setup();
    shared.ram_file = "/tmp/a,b/ram";
    const auto argv = peer_argv(shared);
    EXPECT_THAT(value_of(argv, "-machine"), HasSubstr("memory-backend=ram0"));
    EXPECT_THAT(value_of(argv, "-object"), HasSubstr("mem-path=/tmp/a,,b/ram,share=on,align=2M"));
    EXPECT_THAT(value_of(argv, "-object"), HasSubstr("size=1073741824"));
}

TEST(PeerArgv, AGuestWithAServiceHasADiskAndItsTap) {
    PeerSetup serving = setup();
    serving.guest.service = true;
    serving.guest.append = "quiet";
    serving.guest.initrd = "/made/service.img";
    serving.guest.disk = "/tmp/a,b/disk";
    serving.guest.mac = "52:54:00:78:00:10";
    serving.tap_fd = 11;
    const auto argv = peer_argv(serving);
    EXPECT_EQ(value_of(argv, "-append"), "quiet");
    EXPECT_EQ(value_of(argv, "-initrd"), "/made/service.img");
    EXPECT_THAT(value_of(argv, "-drive"), HasSubstr("file=/tmp/a,,b/disk,"));
    EXPECT_THAT(value_of(argv, "-netdev"), HasSubstr("fd=11"));
    EXPECT_THAT(argv, Contains(HasSubstr("mac=52:54:00:78:00:10")));
    EXPECT_THAT(peer_argv(setup()), Not(Contains("-netdev")));
}

TEST(PeerArgv, ADestinationWaitsAndOneThatIsPausedStaysSo) {
    PeerSetup destination = setup();
    destination.incoming = destination.paused = true;
    destination.guest.kvm = false;
    destination.guest.firmware = "/qboot.rom";
    const auto argv = peer_argv(destination);
    EXPECT_EQ(value_of(argv, "-incoming"), "defer");
    EXPECT_THAT(argv, Contains("-S"));
    EXPECT_EQ(value_of(argv, "-machine"), "q35,accel=tcg");
    EXPECT_EQ(value_of(argv, "-bios"), "/qboot.rom");
}

TEST(PeerArgv, AGuestThatWritesSweepsNothing) {
    EXPECT_EQ(guest_append(setup().guest), "ws=262144K rate=20000 pattern=random sweep=0 seed=7");
}

TEST(PeerArgv, AnIdleGuestSweepsAndMayHaveContent) {
    GuestConfig guest = setup().guest;
    guest.idle = true;
    guest.content = "fill=text";
    EXPECT_EQ(guest_append(guest), "ws=262144K rate=idle pattern=random seed=7 fill=text");
}

TEST(PeerArgv, AWrapperComesBeforeQemu) {
    PeerSetup wrapped = setup();
    wrapped.wrapper = {"nsenter", "--net=/x"};
    const auto argv = peer_argv(wrapped);
    EXPECT_EQ(argv[0], "nsenter");
    EXPECT_EQ(argv[2], "/usr/bin/qemu");
}

TEST(PeerArgv, SizesOfAGuestAreChecked) {
    EXPECT_TRUE(check_guest(setup().guest).ok());
    EXPECT_FALSE(check_guest({.memory = kPageBytes, .working_set = kPageBytes}).ok());
    EXPECT_FALSE(check_guest({.memory = kChunkBytes, .working_set = 1}).ok());
    EXPECT_FALSE(check_guest({}).ok());
}

TEST(Peer, FindsTheHostAddressInWhatHmpPrints) {
    const auto address =
        parse_host_address("Host virtual address for 0x200000 (pc.ram) is 0x7f3a40200000\r\n");
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(*address, 0x7f3a40200000U);
    EXPECT_FALSE(parse_host_address("No memory is mapped at address 0x200000").ok());
    EXPECT_FALSE(parse_host_address("").ok());
}

TEST(Peer, FindsWhereQemuListens) {
    const auto uri = parse_listening_uri(Json::parse(
        R"({"status":"setup","socket-address":[{"type":"inet","host":"127.0.0.1","port":"4567"}]})"));
    ASSERT_TRUE(uri.ok()) << uri.status();
    EXPECT_EQ(*uri, "tcp:127.0.0.1:4567");
    EXPECT_FALSE(parse_listening_uri(Json::parse(R"({"status":"setup"})")).ok());
}

}  // namespace
}  // namespace godwit
