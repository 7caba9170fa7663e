#include "engine/handover/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "engine/base/hash.h"
#include "engine/base/log.h"
#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

constexpr const char* kMark = "godwit-journal ";

std::string last_line(uint32_t version, const std::string& body) {
    return fmt::format("{}{} {:016x}\n", kMark, version,
                       checksum_bytes(std::as_bytes(std::span(body))));
}

absl::Status sync_folder(const std::string& folder) {
    const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.valid() && ::fsync(fd.get()) == 0) return absl::OkStatus();
    return errno_status(errno, fmt::format("Cannot sync the folder {}", folder));
}

// The names in a migration's folder, and its own, which is as new as the migration.
absl::Status sync_names(const std::string& folder) {
    GODWIT_RETURN_IF_ERROR(sync_folder(folder));
    return sync_folder(std::filesystem::path(folder).parent_path().string());
}

absl::StatusOr<UniqueFd> write_file(const std::string& path, const std::string& text) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd.valid()) return errno_status(errno, fmt::format("Cannot open {}", path));
    size_t done = 0;
    while (done < text.size()) {
        const ssize_t put = ::write(fd.get(), text.data() + done, text.size() - done);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno_status(errno, fmt::format("Cannot write {}", path));
        done += static_cast<size_t>(put);
    }
    return fd;
}

absl::Status exchange_files(const std::string& one, const std::string& other) {
    if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0)
        return absl::OkStatus();
    return errno_status(errno, fmt::format("Cannot exchange {} and {}", one, other));
}

absl::Status replace_file(const std::string& next, const std::string& path) {
    if (::rename(next.c_str(), path.c_str()) == 0) return absl::OkStatus();
    return errno_status(errno, fmt::format("Cannot replace {}", path));
}

}  // namespace

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
    const auto status =
        std::filesystem::status(fmt::format("{}/migrations/{}/journal.json", state_dir, id), error);
    return status.type() != std::filesystem::file_type::not_found;
}

absl::StatusOr<std::string> encode_journal(const v1::JournalRecord& record) {
    std::string text;
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    if (!google::protobuf::util::MessageToJsonString(record, &text, options).ok())
        return absl::InternalError("a journal record has no JSON form");
    text += '\n';
    return text + last_line(kJournalVersion, text);
}

absl::StatusOr<v1::JournalRecord> decode_journal(const std::string& text) {
    const size_t at = text.rfind(std::string("\n") + kMark);
    if (at == std::string::npos || text.back() != '\n')
        return absl::DataLossError("it has no last line with its checksum: it was cut short");
    const std::string body = text.substr(0, at + 1);
    uint32_t version = 0;
    if (std::sscanf(text.c_str() + body.size() + std::strlen(kMark), "%u", &version) != 1)
        return absl::DataLossError("its last line is damaged");
    // The checksum first: a version that is a flipped bit is no other version.
    if (text.substr(body.size()) != last_line(version, body))
        return absl::DataLossError("its checksum is wrong: it is damaged");
    if (version != kJournalVersion)
        return absl::FailedPreconditionError(
            fmt::format("it is of version {}, and this agent knows {}", version, kJournalVersion));
    v1::JournalRecord record;
    const auto parsed = google::protobuf::util::JsonStringToMessage(body, &record);
    if (!parsed.ok()) return absl::DataLossError(std::string(parsed.message()));
    return record;
}

std::vector<v1::JournalRecord> Journal::load_all(const std::string& state_dir) {
    std::vector<v1::JournalRecord> records;
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(state_dir + "/migrations", error)) {
        const std::string id = entry.path().filename().string();
        if (!exists(state_dir, id)) continue;
        const std::ifstream file(entry.path() / "journal.json");
        std::stringstream text;
        text << file.rdbuf();
        absl::StatusOr<v1::JournalRecord> record =
            file ? decode_journal(text.str()) : absl::UnavailableError("it can't be opened");
        if (record.ok())
            records.push_back(*std::move(record));
        else
            spdlog::error("journal {} can't be used, and nothing is done about its migration: {}",
                          entry.path().string(), std::string(record.status().message()));
    }
    return records;
}

absl::Status Journal::write(const v1::JournalRecord& record, Durability durability) const {
    GODWIT_ASSIGN_OR_RETURN(const std::string text, encode_journal(record));
    const std::string next = path() + ".new";
    GODWIT_ASSIGN_OR_RETURN(const UniqueFd fd, write_file(next, text));
    if (durability == Durability::kDisk && ::fsync(fd.get()) != 0)
        return errno_status(errno, fmt::format("Cannot sync {}", next));
    GODWIT_RETURN_IF_ERROR(replace_file(next, path()));
    return durability == Durability::kPageCache ? absl::OkStatus() : sync_names(folder_);
}

absl::Status Journal::sync() const {
    const UniqueFd fd(::open(path().c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() || ::fsync(fd.get()) != 0)
        return errno_status(errno, fmt::format("Cannot sync {}", path()));
    return sync_names(folder_);
}

Journal::Prepared::Prepared(Prepared&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})),
      path_(std::exchange(other.path_, {})),
      exchanged_(std::exchange(other.exchanged_, false)) {}

Journal::Prepared& Journal::Prepared::operator=(Prepared&& other) noexcept {
    if (!path_.empty() && path_ != other.path_) ::unlink(path_.c_str());
    bytes_ = std::exchange(other.bytes_, {});
    path_ = std::exchange(other.path_, {});
    exchanged_ = std::exchange(other.exchanged_, false);
    return *this;
}

Journal::Prepared::~Prepared() {
    if (!path_.empty()) ::unlink(path_.c_str());
}

absl::StatusOr<Journal::Prepared> Journal::prepare(const v1::JournalRecord& record,
                                                   const std::string& name) const {
    GODWIT_ASSIGN_OR_RETURN(const std::string text, encode_journal(record));
    Prepared prepared;
    prepared.bytes_ = record.SerializeAsString();
    prepared.path_ = folder_ + "/" + name;
    GODWIT_ASSIGN_OR_RETURN(const UniqueFd fd, write_file(prepared.path_, text));
    // Else its blocks would be looked for at the exchange, and a host that dies then might find
    // neither record.
    if (::fsync(fd.get()) != 0)
        return errno_status(errno, fmt::format("Cannot sync {}", prepared.path_));
    return prepared;
}

absl::Status Journal::write(const v1::JournalRecord& record, Prepared& prepared) const {
    if (prepared.bytes_.empty() || prepared.bytes_ != record.SerializeAsString())
        return write(record, Durability::kPageCache);
    // What was in force takes the prepared one's name, and goes with it: freeing its blocks takes
    // as long as all the rest.
    if (!exchange_files(prepared.path_, path()).ok()) return write(record, Durability::kPageCache);
    prepared.bytes_.clear();
    prepared.exchanged_ = true;
    return absl::OkStatus();
}

absl::Status Journal::take_back(Prepared& prepared) const {
    if (!prepared.exchanged_)
        return absl::FailedPreconditionError("no record was exchanged for a prepared one");
    GODWIT_RETURN_IF_ERROR(exchange_files(prepared.path_, path()));
    prepared.exchanged_ = false;
    return absl::OkStatus();
}

}  // namespace godwit
