// Journals: as they are, and with the last line that belongs to the text before it.
#include "engine/handover/journal.h"

#include <fmt/format.h>

#include <string>

#include "engine/base/check.h"
#include "engine/base/hash.h"
#include "tests/fuzz/target.h"

namespace godwit {
namespace {

void decode(const std::string& text) {
    const auto record = decode_journal(text);
    if (!record.ok()) {
        GODWIT_CHECK(absl::IsDataLoss(record.status()) ||
                     absl::IsFailedPrecondition(record.status()));
        return;
    }
    const auto encoded = encode_journal(*record);
    GODWIT_CHECK(encoded.ok());
    const auto again = decode_journal(*encoded);
    GODWIT_CHECK(again.ok() && again->SerializeAsString() == record->SerializeAsString());
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    const std::string text(FuzzInputReader(data, size).text());
    decode(text);
    const std::string body = text.substr(0, text.rfind("\ngodwit-journal ")) + "\n";
    decode(fmt::format("{}godwit-journal {} {:016x}\n", body, kJournalVersion,
                       checksum_bytes(std::as_bytes(std::span(body)))));
    return 0;
}
