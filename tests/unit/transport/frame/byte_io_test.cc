#include "transport/frame/byte_io.h"

#include <gtest/gtest.h>

#include <array>

namespace godwit {
namespace {

TEST(ByteIo, NumbersAreLittleEndianAndComeBack) {
    std::array<std::byte, 15> bytes{};
    ByteWriter writer(bytes);
    writer.u8(0x01);
    writer.u16(0x0302);
    writer.u32(0x07060504);
    writer.u64(0x0f0e0d0c0b0a0908);
    ASSERT_TRUE(writer.ok());
    for (size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], static_cast<std::byte>(i + 1));
    ByteReader reader(bytes);
    EXPECT_EQ(reader.u8(), 0x01);
    EXPECT_EQ(reader.u16(), 0x0302);
    EXPECT_EQ(reader.u32(), 0x07060504u);
    EXPECT_EQ(reader.u64(), 0x0f0e0d0c0b0a0908u);
    EXPECT_TRUE(reader.ended());
}

TEST(ByteIo, AReaderGivesZerosFromTheFirstFieldThatDoesNotFit) {
    const std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
    ByteReader reader(bytes);
    EXPECT_EQ(reader.u32(), 0u);
    EXPECT_FALSE(reader.ok());
    EXPECT_EQ(reader.u8(), 0);
    std::array<std::byte, 2> out{std::byte{9}, std::byte{9}};
    reader.copy(out);
    EXPECT_EQ(out[0], std::byte{0});
    EXPECT_TRUE(reader.rest().empty());
    EXPECT_FALSE(reader.ended());
}

TEST(ByteIo, AWriterWritesNothingFromTheFirstFieldThatDoesNotFit) {
    std::array<std::byte, 3> bytes{};
    ByteWriter writer(bytes);
    writer.u32(0xffffffff);
    writer.u8(0xff);
    EXPECT_FALSE(writer.ok());
    EXPECT_EQ(writer.written(), 0u);
    for (const std::byte byte : bytes) EXPECT_EQ(byte, std::byte{0});
}

}  // namespace
}  // namespace godwit
