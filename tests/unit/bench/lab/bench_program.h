// A benchmark run as a program: its arguments, its JSON lines, and that it leaves nothing behind.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/lab/child.h"

namespace godwit {

class BenchProgram : public ::testing::Test {
  protected:
    static constexpr Duration kLimit = std::chrono::seconds(100);

    void SetUp() override;
    void TearDown() override;

    // One repeat of a guest that is small, with JSON on stdout.
    absl::StatusOr<Child> start(const std::string& program,
                                const std::vector<std::string>& words) const;
    // The same to its end: its JSON lines. A failure of the test unless it ends well.
    [[nodiscard]] std::vector<nlohmann::json> lines_of(const std::string& program,
                                                       const std::vector<std::string>& words) const;
    // A guest's RAM file, once there is one.
    [[nodiscard]] bool has_guest() const;
    // Interrupts it once it has a guest, and expects it to say so.
    void interrupt(Child& bench) const;

  private:
    std::string scratch_;
};

}  // namespace godwit
