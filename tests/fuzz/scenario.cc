// Scenarios of the lab: YAML as people write it.
#include "bench/lab/scenario/scenario.h"

#include <string>

#include "engine/base/check.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    const auto scenarios =
        parse_scenarios(std::string(FuzzInputReader(data, size).text()), "fuzz.yaml");
    if (!scenarios.ok()) {
        GODWIT_CHECK(scenarios.status().message().substr(0, 10) == "fuzz.yaml:");
        return 0;
    }
    GODWIT_CHECK(!scenarios->empty());
    for (const Scenario& scenario : *scenarios) {
        GODWIT_CHECK(!scenario.name.empty() && !scenario.rows.empty());
        for (const Row& row : scenario.rows) GODWIT_CHECK(check_guest(row.guest).ok());
    }
    return 0;
}
