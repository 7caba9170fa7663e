#include "engine/guest/qemu/vm_record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "engine/guest/qemu/qmp_message.h"

namespace godwit {
namespace {

constexpr size_t kMaxRecordBytes = size_t{1} << 20;
constexpr std::streamoff kLastWordsBytes = 1024;

}  // namespace

absl::StatusOr<VmRecord> parse_record(const std::string& text) {
    const Json json = parse_json(text);
    if (json.is_discarded() || !json.is_object())
        return absl::DataLossError("it is no JSON object");
    VmRecord record;
    try {
        const auto parsed =
            google::protobuf::util::JsonStringToMessage(json.at("spec").dump(), &record.spec);
        if (!parsed.ok()) return absl::DataLossError(std::string(parsed.message()));
        record.process.pid = json.at("pid").get<pid_t>();
        record.process.start_time = json.at("start_time").get<uint64_t>();
        record.incoming = json.at("incoming").get<bool>();
        record.ram_files = json.at("ram_files").get<std::vector<std::string>>();
    } catch (const Json::exception& error) {
        return absl::DataLossError(error.what());
    }
    return record;
}

VmPaths vm_paths(const std::string& state_dir, const std::string& vm_name) {
    return {fmt::format("{}/vms/{}", state_dir, vm_name)};
}

absl::Status write_record(const VmRecord& record, const std::string& path) {
    std::string spec;
    const auto printed = google::protobuf::util::MessageToJsonString(record.spec, &spec);
    if (!printed.ok()) return absl::InternalError(std::string(printed.message()));
    const nlohmann::json json{
        {"spec", nlohmann::json::parse(spec, nullptr, false)},
        {"pid", record.process.pid},
        {"start_time", record.process.start_time},
        {"incoming", record.incoming},
        {"ram_files", record.ram_files},
    };
    const std::string text =
        json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    const std::string next = path + ".new";
    const UniqueFd file(::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file.valid()) return errno_status(errno, fmt::format("Cannot write {}", next));
    const ssize_t put = ::write(file.get(), text.data(), text.size());
    if (put != static_cast<ssize_t>(text.size()))
        return errno_status(put < 0 ? errno : ENOSPC, fmt::format("Cannot write {}", next));
    if (std::rename(next.c_str(), path.c_str()) != 0)
        return errno_status(errno, fmt::format("Cannot replace {}", path));
    return absl::OkStatus();
}

absl::StatusOr<VmRecord> read_record(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return errno_status(errno, fmt::format("Cannot open {}", path));
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (text.size() > kMaxRecordBytes)
        return absl::DataLossError(fmt::format("{} is larger than 1 MiB", path));
    absl::StatusOr<VmRecord> record = parse_record(text);
    if (!record.ok()) return annotate(record.status(), path);
    return record;
}

absl::Status remove_vm_files(const VmPaths& paths, const std::vector<std::string>& ram_files) {
    // RAM first: while the record is there, a restarted agent finds what is left.
    for (const std::string& file : ram_files)
        if (::unlink(file.c_str()) != 0 && errno != ENOENT)
            return errno_status(errno, fmt::format("Cannot remove {}", file));
    std::error_code error;
    std::filesystem::remove_all(paths.directory, error);
    if (error) return errno_status(error.value(), fmt::format("Cannot remove {}", paths.directory));
    return absl::OkStatus();
}

std::string last_words(const std::string& qemu_log) {
    std::ifstream in(qemu_log, std::ios::binary | std::ios::ate);
    if (!in) return "";
    const std::streamoff size = in.tellg();
    in.seekg(size > kLastWordsBytes ? size - kLastWordsBytes : 0);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    for (size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at))
        text.replace(at, 1, "; ");
    return text;
}

std::string make_nonce() {
    uint32_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number)
        number = static_cast<uint32_t>(Clock::system().now().time_since_epoch().count());
    return fmt::format("{:08x}", number);
}

}  // namespace godwit
