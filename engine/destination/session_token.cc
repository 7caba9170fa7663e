#include "engine/destination/session_token.h"

#include <sys/random.h>

#include <cstring>

namespace godwit {

SessionToken random_token() {
    SessionToken token{};
    size_t filled = 0;
    while (filled < token.size()) {
        const ssize_t got = ::getrandom(token.data() + filled, token.size() - filled, 0);
        if (got > 0) filled += static_cast<size_t>(got);
    }
    return token;
}

uint32_t random_generation() {
    const SessionToken bytes = random_token();
    uint32_t generation = 0;
    std::memcpy(&generation, bytes.data(), sizeof generation);
    return generation;
}

}  // namespace godwit
