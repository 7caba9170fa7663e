// A file system on which nothing is left, for as long as this lives.
#pragma once

#include <string>

namespace godwit::testing {

class FullDisk {
  public:
    // Of the file system of that directory: an agent's with AgentOptions::disk_bytes, say. A
    // failure of the test where it can't be filled.
    explicit FullDisk(const std::string& directory);
    ~FullDisk();
    FullDisk(const FullDisk&) = delete;
    FullDisk& operator=(const FullDisk&) = delete;

  private:
    const std::string path_;
};

}  // namespace godwit::testing
