#include "bench/guest/kernel/config.h"

#include "bench/guest/mailbox_layout.h"
#include "bench/guest/page_format.h"

namespace godwit::guest {
namespace {

struct Word {
    const char* data = nullptr;
    unsigned size = 0;

    [[nodiscard]] bool is(const char* other) const {
        unsigned i = 0;
        while (i < size && other[i] == data[i]) ++i;
        return i == size && other[i] == '\0';
    }
    // Splits at the first `separator`; without one the head is everything.
    Word take_until(char separator) {
        Word head{data, 0};
        while (head.size < size && data[head.size] != separator) ++head.size;
        const unsigned skip = head.size < size ? head.size + 1 : head.size;
        data += skip;
        size -= skip;
        return head;
    }
    bool starts_with(const char* prefix) {
        unsigned i = 0;
        for (; prefix[i] != '\0'; ++i)
            if (i >= size || data[i] != prefix[i]) return false;
        data += i;
        size -= i;
        return true;
    }
};

bool parse_number(Word word, uint64_t low, uint64_t high, uint64_t& value) {
    if (word.size == 0 || word.size > 18) return false;
    uint64_t number = 0;
    for (unsigned i = 0; i < word.size; ++i) {
        if (word.data[i] < '0' || word.data[i] > '9') return false;
        number = number * 10 + static_cast<uint64_t>(word.data[i] - '0');
    }
    if (number < low || number > high) return false;
    value = number;
    return true;
}

// A whole number of pages, at most 1 PiB.
bool parse_size(Word word, uint64_t& value) {
    if (word.size == 0) return false;
    unsigned shift = 0;
    switch (word.data[word.size - 1]) {
        case 'K':
            shift = 10;
            break;
        case 'M':
            shift = 20;
            break;
        case 'G':
            shift = 30;
            break;
        default:
            break;
    }
    if (shift != 0) --word.size;
    uint64_t number = 0;
    if (!parse_number(word, 1, (uint64_t{1} << 50) >> shift, number)) return false;
    number <<= shift;
    if (number % kGuestPageBytes != 0) return false;
    value = number;
    return true;
}

template <typename Enum>
struct Choice {
    const char* name;
    Enum value;
};

template <typename Enum, unsigned kCount>
bool parse_choice(Word word, const Choice<Enum> (&choices)[kCount], Enum& value) {
    for (const Choice<Enum>& choice : choices) {
        if (!word.is(choice.name)) continue;
        value = choice.value;
        return true;
    }
    return false;
}

bool parse_rate(Word word, Config& config) {
    config.idle = word.is("idle");
    return config.idle || parse_number(word, 0, 1'000'000'000, config.rate);
}

bool parse_sweep(Word word, Config& config) {
    if (word.is("full")) {
        config.sweep_rate = kUnlimited;
        return true;
    }
    return parse_number(word, 0, 1'000'000'000, config.sweep_rate);
}

// "hot:90/10": 90 % of the writes go to 10 % of the pages.
bool parse_pattern(Word word, Config& config) {
    if (word.starts_with("hot:")) {
        config.pattern = Pattern::kHot;
        const Word writes = word.take_until('/');
        return parse_number(writes, 0, 100, config.hot_writes_percent) &&
               parse_number(word, 1, 99, config.hot_pages_percent);
    }
    static constexpr Choice<Pattern> kPatterns[] = {{"seq", Pattern::kSequential},
                                                    {"random", Pattern::kRandom}};
    return parse_choice(word, kPatterns, config.pattern);
}

constexpr Choice<Fill> kFills[] = {
    {"zero", Fill::kZero}, {"random", Fill::kRandom}, {"text", Fill::kText}};
constexpr Choice<Place> kPlaces[] = {{"low", Place::kLow}, {"high", Place::kHigh}};
constexpr Choice<Rest> kRests[] = {{"spin", Rest::kSpin}, {"halt", Rest::kHalt}};
constexpr Choice<DiskUse> kDiskUses[] = {
    {"auto", DiskUse::kAuto}, {"on", DiskUse::kOn}, {"off", DiskUse::kOff}};

// Returns false for a malformed value; `known` for a key that exists.
bool apply(Word key, Word value, Config& config, bool& known) {
    known = true;
    if (key.is("ws")) return parse_size(value, config.ws_bytes);
    if (key.is("rate")) return parse_rate(value, config);
    if (key.is("pattern")) return parse_pattern(value, config);
    if (key.is("fill")) return parse_choice(value, kFills, config.fill);
    if (key.is("change")) return parse_number(value, 1, kBodyBytes, config.change_bytes);
    if (key.is("seed")) return parse_number(value, 0, kUnlimited, config.seed);
    if (key.is("vcpus")) return parse_number(value, 1, kMaxVcpus, config.vcpu_count);
    if (key.is("sweep")) return parse_sweep(value, config);
    if (key.is("rest")) return parse_choice(value, kRests, config.rest);
    if (key.is("place")) return parse_choice(value, kPlaces, config.place);
    if (key.is("disk")) return parse_choice(value, kDiskUses, config.disk);
    if (key.is("dma")) return parse_size(value, config.dma_bytes);
    if (key.is("diskrate")) return parse_number(value, 0, 1'000'000'000, config.disk_rate);
    if (key.is("diskdepth")) return parse_number(value, 1, 32, config.disk_depth);
    known = false;
    return false;
}

}  // namespace

bool parse_config(const char* command_line, Config& config, Line& problem) {
    Word rest{command_line, 0};
    while (command_line[rest.size] != '\0') ++rest.size;
    rest.take_until(' ');
    while (rest.size > 0) {
        const Word word = rest.take_until(' ');
        if (word.size == 0) continue;
        Word value = word;
        const Word key = value.take_until('=');
        bool known = false;
        if (apply(key, value, config, known)) continue;
        problem.text(known ? "malformed value: " : "unknown key: ").text(word.data, word.size);
        return false;
    }
    if (config.ws_bytes / kGuestPageBytes < config.vcpu_count) {
        problem.text("ws= gives less than one page to each vCPU");
        return false;
    }
    if (config.dma_bytes / kGuestPageBytes < 2 * config.disk_depth) {
        problem.text("dma= must hold at least two pages for each request of diskdepth=");
        return false;
    }
    return true;
}

}  // namespace godwit::guest
