// Replay: a fuzz target's corpus without a fuzzer, so that every build runs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/status.h"

namespace godwit {

using FuzzInput = std::vector<uint8_t>;

// Variants of an input, the same in every run: cut at up to 16 places, a bit flipped at 48, a byte
// replaced by an extreme one at 16, and parts of it doubled, removed and swapped.
std::vector<FuzzInput> variants_of(const FuzzInput& input);

struct Replayed {
    size_t files = 0;
    size_t inputs = 0;  // variants among them
};

// Runs `target` with every file of the directory and with its variants; `before` gets a name for
// each, for who has to say where it ended. Errors: NotFound (no such directory), FailedPrecondition
// (no file in it: a corpus that went missing is no success), read's.
absl::StatusOr<Replayed> replay_corpus(
    const std::string& directory, const std::function<void(const uint8_t*, size_t)>& target,
    const std::function<void(const std::string& name)>& before = [](const std::string&) {});

}  // namespace godwit
