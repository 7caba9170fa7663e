// What a test sees and breaks between an agent and its kernel: a library that is preloaded.
#pragma once

#include <optional>
#include <string>

#include "godwit/v1/journal.pb.h"
#include "tests/harness/agent.h"

namespace godwit::testing {

// Must outlive the agent.
class AgentSeams {
  public:
    AgentSeams();
    ~AgentSeams();
    AgentSeams(const AgentSeams&) = delete;
    AgentSeams& operator=(const AgentSeams&) = delete;

    // Of an agent with these seams.
    [[nodiscard]] AgentOptions options() const;
    // What its host finds of a migration when it loses its power now; nothing: no record.
    [[nodiscard]] std::optional<v1::JournalRecord> on_disk(const std::string& migration_id) const;
    // Whether QEMU's memory can be taken from its userfaultfd.
    void refuse_unregister(bool refused) const;

  private:
    std::string folder_;
};

}  // namespace godwit::testing
