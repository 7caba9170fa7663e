// `godwit vm record-dirty`: a VM's dirty sets over time, into a file that godwit-sim replays.
#pragma once

#include <string>

#include "tools/godwit/agent_client.h"
#include "tools/godwit/exit_code.h"

namespace godwit {

struct RecordOptions {
    v1::RecordDirtyRequest request;
    std::string path;
    bool json = false;
};

// Records until the time is over, the VM ends, or Ctrl-C. The file has its name only once it is
// whole, whichever of these it was; where there is no set yet there is none, and one of that name
// stays as it was.
ExitCode run_record(AgentClient& agent, const RecordOptions& options);

}  // namespace godwit
