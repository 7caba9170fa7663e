// Progress: what runs, what is left, and when it will end.
#pragma once

#include <cstdio>
#include <ctime>
#include <map>
#include <string>

namespace godwit {

// How long runs take, learnt from those that have ended: of the same row, else of the same
// scenario, else of any.
class Durations {
  public:
    void note(const std::string& scenario, const std::string& row, double seconds);
    [[nodiscard]] double expected(const std::string& scenario, const std::string& row) const;

  private:
    struct Mean {
        double sum_s = 0;
        int count = 0;
    };
    std::map<std::string, Mean> means_;  // "scenario\nrow", "scenario", ""
};

struct ProgressState {
    int done = 0;
    int total = 0;
    std::string what;   // scenario: row
    std::string which;  // "3 of 5", "warm-up"
    double left_s = 0;
    std::time_t now = 0;
};

// "[#####.....]  12/60  sparse: godwit-precopy (3 of 5)  8:20 left, ends 15:42", at most `width`.
std::string progress_line(const ProgressState& state, int width);

// " (12/60, ends 15:42)": behind a result, where nobody sees the line of progress.
std::string progress_note(const ProgressState& state);

// On a terminal one line that is rewritten, with the result of each run above it; else a line for
// each run.
class Progress {
  public:
    explicit Progress(std::FILE* out);
    void show(const ProgressState& state);
    void result(const std::string& text);
    // `state`: with this run done.
    void result(const std::string& text, const ProgressState& state);
    void end();

  private:
    std::FILE* out_;
    bool terminal_;
};

}  // namespace godwit
