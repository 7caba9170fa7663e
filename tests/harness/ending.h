// What must be true after a migration that failed, whatever made it fail.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "godwit/v1/agent.grpc.pb.h"
#include "godwit/v1/transfer.grpc.pb.h"
#include "tests/harness/agent.h"

namespace godwit::testing {

// `godwit migrate VM --to TO --json`, with limits that a loaded machine can keep.
CommandResult migrate(TestAgent& from, const std::string& to, const std::string& vm = "vm",
                      const std::vector<std::string>& flags = {});

// What it printed to stdout; null when that was no JSON.
nlohmann::json json_of(const CommandResult& result);
std::string last_line(const std::string& text);

struct Ending {
    int exit_code = 3;
    std::string outcome = "refused";
    std::vector<std::string> words;  // all must be in the reason that is printed
};
inline const Ending kFailed{.exit_code = 1, .outcome = "failed"};

// The guest runs at `from`, alive and well, held by no migration; exit code, report and the last
// line of stderr say so, and that a retry is safe.
void expect_at_source(TestAgent& from, const CommandResult& result, const Ending& ending,
                      const std::string& vm = "vm");

// Sooner or later `agent` has no VM, process, RAM file or directory of that name.
void expect_nothing_left(TestAgent& agent, const std::string& vm = "vm");

// The APIs of an agent, without the command line.
std::unique_ptr<v1::Agent::Stub> agent_api(const TestAgent& agent);
std::unique_ptr<v1::Transfer::Stub> transfer_api(const TestAgent& agent);

}  // namespace godwit::testing
