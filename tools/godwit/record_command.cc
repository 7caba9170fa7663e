#include "tools/godwit/record_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include "engine/base/wait.h"
#include "tools/godwit/interrupts.h"
#include "tools/godwit/migrate_command.h"
#include "tools/godwit/render.h"
#include "tools/godwit/trace_recorder.h"
#include "transport/control/error_detail.h"

namespace godwit {
namespace {

// A file that is under its name only when it is whole.
class PartialFile {
  public:
    static absl::StatusOr<std::unique_ptr<PartialFile>> open(const std::string& path) {
        std::error_code error;
        const std::filesystem::file_status there = std::filesystem::status(path, error);
        if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there))
            return absl::InvalidArgumentError(fmt::format("--output: {} is no file", path));
        auto file = std::unique_ptr<PartialFile>(new PartialFile(path));
        errno = 0;
        file->stream_.open(file->partial_, std::ios::binary | std::ios::trunc);
        if (!file->stream_)
            return absl::InvalidArgumentError(std::string(
                annotate(errno_status(errno, "Cannot write " + file->partial_), "--output")
                    .message()));
        file->is_open_ = true;
        return file;
    }
    PartialFile(const PartialFile&) = delete;
    PartialFile& operator=(const PartialFile&) = delete;
    ~PartialFile() {
        if (is_open_) ::unlink(partial_.c_str());
    }

    std::ostream& stream() { return stream_; }
    absl::Status keep() {
        stream_.close();
        if (!stream_) return absl::DataLossError("Cannot write " + partial_);
        if (std::rename(partial_.c_str(), path_.c_str()) != 0)
            return errno_status(errno, fmt::format("Cannot rename {} to {}", partial_, path_));
        is_open_ = false;
        return absl::OkStatus();
    }

  private:
    explicit PartialFile(std::string path) : path_(std::move(path)), partial_(path_ + ".partial") {}

    const std::string path_;
    const std::string partial_;
    std::ofstream stream_;
    bool is_open_ = false;  // and not yet under its name
};

// How a recording ended.
struct RecordingEnd {
    std::string_view word = "time";  // time, interrupt, vm-ended, failed
    ExitCode code = ExitCode::kDone;
    std::string reason;  // why it is shorter than was asked for; empty: it is not
};

RecordingEnd end_of(const TraceRecorder& recorder, const absl::Status& status, bool interrupted) {
    if (!recorder.ended_early().empty())
        return {.word = "vm-ended", .code = ExitCode::kGuestDied, .reason = recorder.ended_early()};
    if (status.ok()) return {};
    if (interrupted) return {.word = "interrupt", .reason = "interrupted"};
    return {.word = "failed", .code = ExitCode::kFailed, .reason = std::string(status.message())};
}

// There is no trace.
ExitCode fail(const absl::Status& status, const char* reason, ExitCode code, bool json) {
    v1::ErrorDetail detail = untouched(reason);
    if (code == ExitCode::kGuestDied) {
        detail.set_guest_at(v1::GUEST_AT_NONE);
        detail.set_retry_safe(false);
    }
    print_error(with_detail(status, detail), json);
    return code;
}

void print_recording(const TraceRecorder& recorder, const RecordingEnd& end,
                     const RecordOptions& options) {
    if (!end.reason.empty())
        std::cerr << fmt::format("godwit: {}; what was recorded until then is whole\n", end.reason);
    const v1::DirtyRecordingStart& start = recorder.start();
    const double recorded_ms = static_cast<double>(recorder.time_ns()) / 1e6;
    if (options.json)
        std::cout << json_text({{"vm", start.vm()},
                                {"trace", options.path},
                                {"tracker", start.tracker()},
                                {"tracker_reason", start.tracker_reason()},
                                {"recorded_ms", recorded_ms},
                                {"sets", recorder.sets()},
                                {"dirty_pages", recorder.dirty_pages()},
                                {"touched_pages", start.touched_pages()},
                                {"ended", end.word},
                                {"reason", end.reason}})
                  << std::endl;
    else
        std::cout << fmt::format(
            "{}: {} dirty sets over {:.1f} s with {}, {} pages in all; {} of memory in use\n"
            "{}: godwit-sim --trace {}\n",
            start.vm(), recorder.sets(), recorded_ms / 1e3, start.tracker(), recorder.dirty_pages(),
            format_bytes(start.touched_pages() * kPageBytes), options.path, options.path);
}

// One line, rewritten in place, where there is a terminal.
void show_recording(const TraceRecorder& recorder, bool terminal) {
    if (!terminal) return;
    std::cerr << fmt::format("\r\033[K{:.1f} s, {} sets, {} pages",
                             static_cast<double>(recorder.time_ns()) / 1e9, recorder.sets(),
                             recorder.dirty_pages())
              << std::flush;
}

}  // namespace

ExitCode run_record(AgentClient& agent, const RecordOptions& options) {
    const Interrupts interrupts;
    const absl::StatusOr<Wakeup> finished = Wakeup::create();
    if (!finished.ok()) return print_error(finished.status(), options.json);
    const auto file = PartialFile::open(options.path);
    if (!file.ok()) return print_error(file.status(), options.json);

    std::stop_source stop;
    std::jthread signals([&] {
        if (wait_readable(interrupts.fd(), finished->fd(), std::nullopt).ok()) stop.request_stop();
    });
    const bool terminal = !options.json && ::isatty(STDERR_FILENO) != 0;
    TraceRecorder recorder((*file)->stream());
    absl::Status broken;
    const absl::Status status = agent.record_dirty(
        options.request,
        [&](const v1::DirtyRecording& message) {
            broken = recorder.take(message);
            show_recording(recorder, terminal);
            return broken.ok();
        },
        stop.get_token());
    finished->notify();
    signals.join();
    if (terminal && recorder.sets() > 0) std::cerr << "\r\033[K" << std::flush;
    if (!broken.ok())
        return fail(annotate(broken, "Cannot record; there is no trace"), "NOT_WRITTEN",
                    ExitCode::kFailed, options.json);
    // Nothing began.
    if (recorder.start().vm().empty() && !status.ok() && !stop.stop_requested())
        return print_error(status, options.json);

    const RecordingEnd end = end_of(recorder, status, stop.stop_requested());
    absl::Status kept = recorder.finish();
    if (absl::IsFailedPrecondition(kept))
        return fail(absl::FailedPreconditionError(
                        fmt::format("{}: nothing was recorded yet; there is no trace", end.reason)),
                    "NOTHING_RECORDED", end.word == "interrupt" ? ExitCode::kCancelled : end.code,
                    options.json);
    if (kept.ok()) kept = (*file)->keep();
    if (!kept.ok()) return fail(kept, "NOT_WRITTEN", ExitCode::kFailed, options.json);
    print_recording(recorder, end, options);
    return end.code;
}

}  // namespace godwit
