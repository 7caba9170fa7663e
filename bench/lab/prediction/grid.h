// The grid that predictions are held against: which guest moves over which link by which strategy.
// Pure: the same seed gives the same cells, and the same third of them is held out.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/lab/peer_argv.h"
#include "engine/base/clock.h"

namespace godwit {

struct GridCell {
    std::string name;        // unique, with every axis
    std::string strategy;    // as the command line has it
    std::string otherwise;   // --on-no-converge; empty: the strategy has no rounds, or its own
    std::string pattern;     // seq, random, hot:90/10
    std::string fill;        // random, text
    double write_share = 0;  // pages written, as a part of the pages that the link carries raw
    Bytes working_set = 0;
    Bytes link_bytes_per_s = 0;
    Duration downtime_limit{};
    // Never looked at while a model is made, and unknown to the calibration that predicts it.
    bool held_out = false;
    [[nodiscard]] uint64_t writes_per_s() const;
};

inline constexpr Bytes kGridMemory = Bytes{256} << 20;  // of each guest

// 28 cells for each of three links (0.5, 1 and 2 Gb/s): every axis has each of its values as often
// as the next within a link and strategy, paired by the seed. Within each link first those that
// models may be tuned on, then the third that is held out.
std::vector<GridCell> prediction_grid(uint64_t seed);

// Migrations that calibrate a link's agents before its first cell, one of each strategy and two
// whose pages go packed; they are in no statistic.
std::vector<GridCell> calibration_cells(Bytes link_bytes_per_s);

// The guest of a cell, without what the machine gives it.
GuestConfig guest_of(const GridCell& cell);

}  // namespace godwit
