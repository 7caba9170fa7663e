#include "engine/handover/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/base/log.h"
#include "engine/base/unique_fd.h"

namespace godwit {

bool is_valid_id(const std::string& id) {
    if (id.empty() || id.size() > 64) return false;
    if (!std::isalnum(static_cast<unsigned char>(id.front()))) return false;
    return std::all_of(id.begin(), id.end(), [](unsigned char letter) {
        return std::isalnum(letter) || letter == '.' || letter == '_' || letter == '-';
    });
}

absl::StatusOr<Journal> Journal::open(const std::string& state_dir, const std::string& id) {
    if (!is_valid_id(id))
        return absl::InvalidArgumentError(fmt::format(
            "\"{}\" is no migration id: use 1 to 64 letters, digits, '.', '_' and '-'", id));
    std::string folder = fmt::format("{}/migrations/{}", state_dir, id);
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error)
        return errno_status(error.value(), fmt::format("Cannot create the folder {}", folder));
    return Journal(std::move(folder));
}

bool Journal::exists(const std::string& state_dir, const std::string& id) {
    std::error_code error;
    return std::filesystem::exists(fmt::format("{}/migrations/{}/journal.json", state_dir, id),
                                   error);
}

std::vector<v1::JournalRecord> Journal::load_all(const std::string& state_dir) {
    std::vector<v1::JournalRecord> records;
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(state_dir + "/migrations", error)) {
        const std::ifstream file(entry.path() / "journal.json");
        if (!file) continue;
        std::stringstream text;
        text << file.rdbuf();
        v1::JournalRecord record;
        const auto parsed = google::protobuf::util::JsonStringToMessage(text.str(), &record);
        if (!parsed.ok()) {
            spdlog::error("journal {} cannot be read: {}", entry.path().string(),
                          std::string(parsed.message()));
            continue;
        }
        records.push_back(std::move(record));
    }
    return records;
}

absl::Status Journal::write(const v1::JournalRecord& record, Durability durability) const {
    std::string text;
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    if (!google::protobuf::util::MessageToJsonString(record, &text, options).ok())
        return absl::InternalError("a journal record has no JSON form");
    const std::string path = folder_ + "/journal.json";
    const std::string next = path + ".new";
    const UniqueFd fd(::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd.valid()) return errno_status(errno, fmt::format("Cannot open {}", next));
    size_t done = 0;
    while (done < text.size()) {
        const ssize_t put = ::write(fd.get(), text.data() + done, text.size() - done);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno_status(errno, fmt::format("Cannot write {}", next));
        done += static_cast<size_t>(put);
    }
    if (durability == Durability::kDisk && ::fdatasync(fd.get()) != 0)
        return errno_status(errno, fmt::format("Cannot sync {}", next));
    if (::rename(next.c_str(), path.c_str()) != 0)
        return errno_status(errno, fmt::format("Cannot replace {}", path));
    return absl::OkStatus();
}

}  // namespace godwit
