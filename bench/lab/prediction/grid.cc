#include "bench/lab/prediction/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/base/units.h"
#include "engine/model/synthetic_vm.h"

namespace godwit {
namespace {

using std::chrono::milliseconds;

constexpr Bytes kMiB = Bytes{1} << 20;
constexpr Bytes kLinks[] = {62'500'000, 125'000'000, 250'000'000};

// How many cells of a kind each link has. Rounds that converge, or might, and rounds that can't are
// told apart by what the guest writes.
struct Kind {
    const char* strategy;
    const char* otherwise;
    int calm;   // writes less than the link carries
    int heavy;  // writes more
};
constexpr Kind kKinds[] = {{"precopy", "stop-and-copy", 6, 8},
                           {"precopy", "fail", 1, 2},
                           {"hybrid", "", 2, 3},
                           {"stop-and-copy", "", 2, 2},
                           {"postcopy", "", 1, 1}};
constexpr size_t kHeldOutOf = 3;  // one in so many, at least
// Bytes of a page that each write changes: all, so that deltas, which no plan foresees, save none.
constexpr int kWholePage = 4064;

// `count` values, each of `from` as often as the next, in a random order.
template <typename T>
std::vector<T> deck(const std::vector<T>& from, int count, Dice& dice) {
    std::vector<T> cards;
    const auto start = static_cast<size_t>(dice.roll() * static_cast<double>(from.size()));
    for (size_t i = 0; i < static_cast<size_t>(count); ++i)
        cards.push_back(from[(start + i) % from.size()]);
    for (size_t i = cards.size(); i > 1; --i)
        std::swap(cards[i - 1], cards[static_cast<size_t>(dice.roll() * static_cast<double>(i))]);
    return cards;
}

std::string name_of(size_t index, const GridCell& cell) {
    return fmt::format("{:02} {}{}{} {:g} Gb/s {} {} x{:g} {} limit {:g} ms", index, cell.strategy,
                       cell.otherwise.empty() ? "" : "/", cell.otherwise,
                       static_cast<double>(cell.link_bytes_per_s) * 8 / 1e9, cell.pattern,
                       cell.fill, cell.write_share, format_bytes(cell.working_set),
                       to_ms(cell.downtime_limit));
}

void add_kind(const Kind& kind, Bytes link, Dice& dice, std::vector<GridCell>& cells) {
    const int count = kind.calm + kind.heavy;
    const auto patterns = deck<std::string>({"seq", "random", "hot:90/10"}, count, dice);
    const auto fills = deck<std::string>({"random", "random", "random", "text"}, count, dice);
    const auto sets = deck<Bytes>({32 * kMiB, 64 * kMiB, 128 * kMiB}, count, dice);
    const auto limits =
        deck<milliseconds>({milliseconds(30), milliseconds(120), milliseconds(300)}, count, dice);
    std::vector<double> shares = deck<double>({0.1, 0.3, 0.5, 0.7}, kind.calm, dice);
    const auto heavy = deck<double>({1.5, 3}, kind.heavy, dice);
    shares.insert(shares.end(), heavy.begin(), heavy.end());
    for (size_t i = 0; i < static_cast<size_t>(count); ++i)
        cells.push_back({.strategy = kind.strategy,
                         .otherwise = kind.otherwise,
                         .pattern = patterns[i],
                         .fill = fills[i],
                         .write_share = shares[i],
                         .working_set = sets[i],
                         .link_bytes_per_s = link,
                         .downtime_limit = limits[i]});
}

}  // namespace

uint64_t GridCell::writes_per_s() const {
    const double pages = write_share * static_cast<double>(link_bytes_per_s) / kPageBytes;
    return std::max(static_cast<uint64_t>(pages), uint64_t{1});
}

std::vector<GridCell> prediction_grid(uint64_t seed) {
    std::vector<GridCell> all;
    Dice dice(seed);
    for (const Bytes link : kLinks) {
        std::vector<GridCell> cells;
        for (const Kind& kind : kKinds) add_kind(kind, link, dice, cells);
        std::vector<size_t> order(cells.size());
        for (size_t i = 0; i < order.size(); ++i) order[i] = i;
        order = deck<size_t>(order, static_cast<int>(order.size()), dice);
        const size_t tuned = order.size() - (order.size() + kHeldOutOf - 1) / kHeldOutOf;
        for (size_t i = 0; i < order.size(); ++i) {
            GridCell cell = cells[order[i]];
            cell.held_out = i >= tuned;
            cell.name = name_of(all.size() + 1, cell);
            all.push_back(std::move(cell));
        }
    }
    return all;
}

std::vector<GridCell> calibration_cells(Bytes link_bytes_per_s) {
    std::vector<GridCell> cells;
    for (const auto& [strategy, fill] : {std::pair{"stop-and-copy", "random"},
                                         {"precopy", "random"},
                                         {"hybrid", "random"},
                                         {"postcopy", "random"},
                                         {"precopy", "text"},
                                         {"stop-and-copy", "text"}})
        cells.push_back({.name = fmt::format("calibration {} {}", strategy, fill),
                         .strategy = strategy,
                         .pattern = "random",
                         .fill = fill,
                         .write_share = 0.3,
                         .working_set = 64 * kMiB,
                         .link_bytes_per_s = link_bytes_per_s,
                         .downtime_limit = milliseconds(120)});
    return cells;
}

// On small pages: both agents run on one kernel, and its counters of huge pages are the host's.
// What the destination drops splits some, after which the source's tracker must suspect all of the
// guest, and all of it is missing after the resume, as it never is between two hosts.
GuestConfig guest_of(const GridCell& cell) {
    return {.memory = kGridMemory,
            .working_set = cell.working_set,
            .writes_per_s = cell.writes_per_s(),
            .backing = "4k",
            .content = fmt::format("pattern={} fill={} change={} rest=halt", cell.pattern,
                                   cell.fill, kWholePage)};
}

}  // namespace godwit
