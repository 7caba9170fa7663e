// A script in place of QEMU, for `godwitd --qemu`.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace godwit::testing {

// Writes an executable shell script to `path`. `body` runs when a VM starts, with QEMU's arguments;
// QEMU's version and machine list are asked for as usual. Returns the path.
inline std::string write_qemu_wrapper(const std::string& path, const std::string& body) {
    std::ofstream(path) << fmt::format(
        "#!/bin/bash\n"
        "case \"$*\" in --version|'-machine help') exec qemu-system-x86_64 \"$@\";; esac\n{}\n",
        body);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
}

// A directory of its own, removed at the end.
class ScratchDirectory {
  public:
    ScratchDirectory() {
        std::string pattern = "/tmp/gw-hostile-XXXXXX";
        path_ = ::mkdtemp(pattern.data());
    }
    ~ScratchDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    ScratchDirectory(const ScratchDirectory&) = delete;
    ScratchDirectory& operator=(const ScratchDirectory&) = delete;
    [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};

}  // namespace godwit::testing
