// TickSource: where BlackoutSampler looks for the guest's ticks: in a RAM file, or in the memory of
// the process that has the guest's RAM for itself.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/unique_fd.h"

namespace godwit {

class TickSource {
  public:
    virtual ~TickSource() = default;
    // The largest tick of all vCPUs; 0 while none can be read. Never waits for a page, makes none
    // and triggers no userfaultfd. Called by one thread.
    virtual uint64_t read_tick(MonotonicTime now) = 0;
};

// A RAM file, which may not exist yet and may be replaced by a new one of that name.
class FileTicks : public TickSource {
  public:
    explicit FileTicks(std::string path) : path_(std::move(path)) {}
    uint64_t read_tick(MonotonicTime now) override;

  private:
    void look(MonotonicTime now);

    std::string path_;
    UniqueFd file_;
    ino_t inode_ = 0;
    dev_t device_ = 0;
    uint64_t largest_ = 0;
    MonotonicTime look_again_{};
};

// A RAM file of which only the directory and both ends of its name are known beforehand.
class DirectoryTicks : public TickSource {
  public:
    DirectoryTicks(std::string directory, std::string prefix, std::string suffix)
        : directory_(std::move(directory)),
          prefix_(std::move(prefix)),
          suffix_(std::move(suffix)) {}
    uint64_t read_tick(MonotonicTime now) override;

  private:
    const std::string directory_, prefix_, suffix_;
    std::unique_ptr<FileTicks> file_;
    MonotonicTime look_again_{};
};

// The mailbox's page in a process with private RAM, once it is known. The page is read only while
// /proc/PID/pagemap shows it present: reading an absent page through /proc/PID/mem would ask the
// userfaultfd for it, and that is for the guest to do.
class ProcessTicks : public TickSource {
  public:
    // From now on `address` in process `pid`; thread-safe. False when it cannot be opened.
    bool show(pid_t pid, uint64_t address);
    uint64_t read_tick(MonotonicTime now) override;

  private:
    std::mutex mutex_;
    UniqueFd memory_, pagemap_;
    uint64_t address_ = 0;
};

}  // namespace godwit
