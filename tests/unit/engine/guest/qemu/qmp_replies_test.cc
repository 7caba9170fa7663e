#include "engine/guest/qemu/qmp_replies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(QmpReplies, NameThreadsReasonsAndDevices) {
    EXPECT_THAT(vcpu_threads_of(parse_json(R"([{"thread-id": 7}, {"thread-id": 8}])")),
                ElementsAre(7, 8));
    EXPECT_THAT(blocked_reasons_of(parse_json(R"({"blocked-reasons": ["a", "b"]})")),
                ElementsAre("a", "b"));
    EXPECT_THAT(memory_devices_of(parse_json(
                    R"([{"data": {"id": "d0"}}, {"data": {"memdev": "m1"}}, {"data": {}}])")),
                ElementsAre("d0", "m1", "a memory device"));
}

TEST(QmpReplies, OfWrongTypesAreNoException) {
    for (const char* text : {"null", "17", "\"x\"", "[]", "{}", "[17, \"x\", null]"}) {
        const Json reply = parse_json(text);
        EXPECT_THAT(vcpu_threads_of(reply), IsEmpty()) << text;
        EXPECT_THAT(blocked_reasons_of(reply), IsEmpty()) << text;
    }
    EXPECT_THAT(blocked_reasons_of(parse_json(R"({"blocked-reasons": {"a": "b"}})")), IsEmpty());
    EXPECT_THAT(memory_devices_of(parse_json(R"([17, {"data": 3}, {"data": {"id": 3}}])")),
                ElementsAre("a memory device", "a memory device", "a memory device"));
}

TEST(QmpReplies, NoThreadHasANumberThatAThreadCannotHave) {
    EXPECT_THAT(vcpu_threads_of(
                    parse_json(R"([{"thread-id": 0}, {"thread-id": -5}, {"thread-id": 4294967297},)"
                               R"( {"thread-id": 18446744073709551615}, {"thread-id": 1.5}, {}])")),
                IsEmpty());
}

}  // namespace
}  // namespace godwit
