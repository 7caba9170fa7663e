#include "tests/harness/agent_seams.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/handover/journal.h"

namespace godwit::testing {

AgentSeams::AgentSeams() {
    std::string pattern = "/tmp/gw-seams-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
}

AgentSeams::~AgentSeams() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
}

AgentOptions AgentSeams::options() const {
    return {.wrapper = {"env", "LD_PRELOAD=" + program("libgodwit-test-seams.so"),
                        "GODWIT_TEST_SEAMS=" + folder_}};
}

std::optional<v1::JournalRecord> AgentSeams::on_disk(const std::string& migration_id) const {
    std::ifstream file(folder_ + "/disk/" + migration_id + "/journal.json");
    if (!file) return std::nullopt;
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const absl::StatusOr<v1::JournalRecord> record = decode_journal(text);
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() ? std::optional(*record) : std::nullopt;
}

void AgentSeams::refuse_unregister(bool refused) const {
    const std::string path = folder_ + "/no-unregister";
    if (refused)
        std::ofstream(path).close();
    else
        std::filesystem::remove(path);
}

}  // namespace godwit::testing
