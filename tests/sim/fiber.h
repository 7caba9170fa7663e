// Fiber: a function with a stack of its own, which runs until it says so.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>

namespace godwit::sim {

// Not thread-safe: all fibers of a simulation take turns on one thread.
class Fiber {
  public:
    explicit Fiber(std::function<void()> body);
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // Runs it until it pauses or ends. An exception that leaves the body comes out here.
    void run();
    // From within: back to whoever called run().
    void pause();
    [[nodiscard]] bool ended() const { return ended_; }

  private:
    static void enter(unsigned high, unsigned low);

    std::function<void()> body_;
    std::unique_ptr<std::byte[]> stack_;
    ucontext_t fiber_{};
    ucontext_t caller_{};
    std::exception_ptr thrown_;
    bool ended_ = false;
    // For a sanitizer that must know which stack it looks at.
    void* fake_stack_ = nullptr;
    const void* caller_bottom_ = nullptr;
    size_t caller_bytes_ = 0;
};

}  // namespace godwit::sim
