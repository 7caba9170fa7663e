#include "tests/fuzz/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <system_error>

namespace godwit {
namespace {

constexpr uint64_t kSeed = 20261126;
constexpr size_t kCuts = 16;
constexpr size_t kFlips = 48;
constexpr size_t kExtremes = 16;
constexpr size_t kShuffles = 8;

void add_cuts(const FuzzInput& input, std::vector<FuzzInput>& variants) {
    const size_t step = std::max<size_t>(1, input.size() / kCuts);
    for (size_t size = 0; size < input.size(); size += step)
        variants.emplace_back(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(size));
    variants.emplace_back(input.begin(), input.end() - 1);
}

// A part of the input in another part's place, there twice, or not at all.
FuzzInput shuffled(const FuzzInput& input, std::mt19937_64& random) {
    const size_t begin = random() % input.size();
    const size_t length = 1 + random() % std::min<size_t>(input.size() - begin, 64);
    const size_t at = random() % input.size();
    const auto first = input.begin() + static_cast<std::ptrdiff_t>(begin);
    const FuzzInput part(first, first + static_cast<std::ptrdiff_t>(length));
    FuzzInput result = input;
    const auto place = static_cast<std::ptrdiff_t>(at);
    if (random() % 3 == 0) {
        result.erase(result.begin() + static_cast<std::ptrdiff_t>(begin),
                     result.begin() + static_cast<std::ptrdiff_t>(begin + length));
    } else if (random() % 2 == 0) {
        result.insert(result.begin() + place, part.begin(), part.end());
    } else {
        const size_t fits = std::min(length, result.size() - at);
        std::copy_n(part.begin(), fits, result.begin() + place);
    }
    return result;
}

absl::StatusOr<FuzzInput> read_input(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return errno_status(errno, fmt::format("Cannot open {}", path.string()));
    return FuzzInput(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// From memory that ends with the input, for a sanitizer to see what reads behind it.
void run_exactly(const FuzzInput& input,
                 const std::function<void(const uint8_t*, size_t)>& target) {
    const auto copy = std::make_unique<uint8_t[]>(input.size());
    std::copy(input.begin(), input.end(), copy.get());
    target(copy.get(), input.size());
}

}  // namespace

std::vector<FuzzInput> variants_of(const FuzzInput& input) {
    std::vector<FuzzInput> variants;
    if (input.empty()) return variants;
    std::mt19937_64 random(kSeed);
    add_cuts(input, variants);
    for (size_t i = 0; i < kFlips; ++i) {
        FuzzInput flipped = input;
        flipped[random() % input.size()] ^= static_cast<uint8_t>(1u << random() % 8);
        variants.push_back(std::move(flipped));
    }
    static constexpr std::array<uint8_t, 4> kExtreme{0x00, 0x7f, 0x80, 0xff};
    for (size_t i = 0; i < kExtremes; ++i) {
        FuzzInput extreme = input;
        extreme[random() % input.size()] = kExtreme[i % kExtreme.size()];
        variants.push_back(std::move(extreme));
    }
    for (size_t i = 0; i < kShuffles; ++i) variants.push_back(shuffled(input, random));
    return variants;
}

absl::StatusOr<Replayed> replay_corpus(const std::string& directory,
                                       const std::function<void(const uint8_t*, size_t)>& target,
                                       const std::function<void(const std::string&)>& before) {
    std::error_code error;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error))
        if (entry.is_regular_file()) files.push_back(entry.path());
    if (error)
        return errno_status(error.value(), fmt::format("Cannot read the corpus {}", directory));
    if (files.empty())
        return absl::FailedPreconditionError(
            fmt::format("the corpus {} is empty: nothing was tried", directory));
    std::sort(files.begin(), files.end());
    Replayed replayed;
    for (const std::filesystem::path& path : files) {
        GODWIT_ASSIGN_OR_RETURN(const FuzzInput input, read_input(path));
        before(path.string());
        run_exactly(input, target);
        ++replayed.files;
        ++replayed.inputs;
        size_t number = 0;
        for (const FuzzInput& variant : variants_of(input)) {
            before(fmt::format("{}, variant {}", path.string(), number++));
            run_exactly(variant, target);
            ++replayed.inputs;
        }
    }
    return replayed;
}

}  // namespace godwit
