// What the Linux guest said on its serial port, on every host it was on: one text.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/base/unique_fd.h"
#include "tests/harness/agent.h"

namespace godwit::testing {

class LinuxConsole {
  public:
    // From now on also what `vm` says at `agent`: call it before each migration away from there,
    // for the file goes with the VM.
    void follow(TestAgent& agent, const std::string& vm);

    // The same of a file that all its hosts write to.
    void follow_file(const std::string& path);

    // Everything so far.
    [[nodiscard]] std::string text() const;
    // How often each kind of line ("tick", "disk ok", "mem ok", "net ok", "net lost") was said.
    [[nodiscard]] std::map<std::string, uint64_t> counts() const;
    // Lines that tell of a fault, and gaps in the numbers: nothing may be missing or said twice.
    [[nodiscard]] std::vector<std::string> faults() const;

  private:
    std::vector<UniqueFd> files_;
};

}  // namespace godwit::testing
