#include "bench/guest/kernel/prose.h"

namespace godwit::guest {
namespace {

constexpr const char* kWords[] = {
    "the ",  "godwit ",  "flies ", "from ",  "alaska ", "to ",     "new ",   "zealand ",
    "in ",   "eleven ",  "days ",  "and ",   "never ",  "stops ",  "on ",    "its ",
    "way ",  "over ",    "ocean ", "with ",  "no ",     "food ",   "or ",    "sleep ",
    "wind ", "carries ", "it ",    "south ", "each ",   "autumn ", "again ", "home. "};
constexpr unsigned kProseWords = 256;  // 2 KiB: a page repeats it, so each page compresses alone

alignas(8) char prose[kProseWords * 8];

}  // namespace

void write_prose(uint64_t seed) {
    uint64_t state = seed;
    for (unsigned size = 0; size < sizeof prose;) {
        state = state * 6364136223846793005 + 1442695040888963407;  // Knuth's MMIX generator
        for (const char* c = kWords[state >> 59]; *c != '\0' && size < sizeof prose; ++c)
            prose[size++] = *c;
    }
}

uint64_t prose_word(uint64_t random) {
    return reinterpret_cast<const uint64_t*>(prose)[random >> 56];
}

}  // namespace godwit::guest
