// TestHold: stops a migration at one step until a test lets it go (godwitd --test-hold-at).
#pragma once

#include <atomic>
#include <string>
#include <string_view>

namespace godwit {

// Thread-safe.
class TestHold {
  public:
    // Holds the first migration that reaches `step`.
    TestHold(std::string step, const std::string& state_dir);

    // At that step, once: writes <state>/held and waits until somebody removes it, at most a
    // minute. Returns at once at any other step.
    void reached(std::string_view step);

  private:
    const std::string step_;
    const std::string state_dir_;
    std::atomic<bool> held_{false};
};

}  // namespace godwit
