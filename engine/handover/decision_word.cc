#include "engine/handover/decision_word.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "engine/base/unique_fd.h"

namespace godwit {

absl::StatusOr<DecisionWord> DecisionWord::open(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd.valid()) return errno_status(errno, fmt::format("Cannot open {}", path));
    // Its block is there before it is mapped: a store into a hole of a full file system is a
    // SIGBUS.
    if (const int error = ::posix_fallocate(fd.get(), 0, sizeof(uint32_t)); error != 0)
        return errno_status(error, fmt::format("Cannot allocate {}", path));
    GODWIT_ASSIGN_OR_RETURN(Mapping mapping, Mapping::map_shared(fd.get(), sizeof(uint32_t)));
    return DecisionWord(std::move(mapping));
}

absl::StatusOr<DecisionWord> DecisionWord::find(const std::string& path) {
    struct stat file {};
    if (::stat(path.c_str(), &file) != 0)
        return errno_status(errno, fmt::format("Cannot find {}", path));
    if (file.st_size != sizeof(uint32_t))
        return absl::DataLossError(
            fmt::format("{} has {} bytes: it is damaged", path, file.st_size));
    GODWIT_ASSIGN_OR_RETURN(DecisionWord word, open(path));
    if (word.read() > Verdict::kAbort)
        return absl::DataLossError(fmt::format("{} says nothing: it is damaged", path));
    return word;
}

std::atomic_ref<uint32_t> DecisionWord::word() const {
    return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(mapping_.data()));
}

Verdict DecisionWord::read() const { return static_cast<Verdict>(word().load()); }

bool DecisionWord::decide(Verdict verdict) { return decide_first(verdict) || read() == verdict; }

bool DecisionWord::decide_first(Verdict verdict) {
    auto seen = static_cast<uint32_t>(Verdict::kOpen);
    return word().compare_exchange_strong(seen, static_cast<uint32_t>(verdict));
}

}  // namespace godwit
