#include "tests/sim/fiber.h"

#include <cstdint>
#include <utility>

#include "engine/base/sanitizers.h"
#if GODWIT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace godwit::sim {
namespace {

// Journals are made to text on it, and under a sanitizer.
constexpr size_t kStackBytes = size_t{256} << 10;

void begin_switch([[maybe_unused]] void** fake, [[maybe_unused]] const void* bottom,
                  [[maybe_unused]] size_t bytes) {
#if GODWIT_ASAN
    __sanitizer_start_switch_fiber(fake, bottom, bytes);
#endif
}

void end_switch([[maybe_unused]] void* fake, [[maybe_unused]] const void** bottom,
                [[maybe_unused]] size_t* bytes) {
#if GODWIT_ASAN
    __sanitizer_finish_switch_fiber(fake, bottom, bytes);
#endif
}

}  // namespace

Fiber::Fiber(std::function<void()> body)
    : body_(std::move(body)), stack_(new std::byte[kStackBytes]) {
    ::getcontext(&fiber_);
    fiber_.uc_stack.ss_sp = stack_.get();
    fiber_.uc_stack.ss_size = kStackBytes;
    fiber_.uc_link = nullptr;
    const auto self = reinterpret_cast<uintptr_t>(this);
    ::makecontext(&fiber_, reinterpret_cast<void (*)()>(&Fiber::enter), 2,
                  static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
}

void Fiber::enter(unsigned high, unsigned low) {
    auto* self = reinterpret_cast<Fiber*>((uintptr_t{high} << 32) | low);
    end_switch(nullptr, &self->caller_bottom_, &self->caller_bytes_);
    try {
        self->body_();
    } catch (...) {
        self->thrown_ = std::current_exception();
    }
    self->ended_ = true;
    begin_switch(nullptr, self->caller_bottom_, self->caller_bytes_);
    ::setcontext(&self->caller_);
}

void Fiber::run() {
    void* fake = nullptr;
    begin_switch(&fake, stack_.get(), kStackBytes);
    ::swapcontext(&caller_, &fiber_);
    end_switch(fake, nullptr, nullptr);
    if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void Fiber::pause() {
    begin_switch(&fake_stack_, caller_bottom_, caller_bytes_);
    ::swapcontext(&fiber_, &caller_);
    end_switch(fake_stack_, &caller_bottom_, &caller_bytes_);
}

}  // namespace godwit::sim
