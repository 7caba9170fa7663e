#include "engine/guest/vm_file/yaml_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

namespace godwit {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 0; i < a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b.size(); ++j) {
            const size_t above = row[j + 1];
            row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1)});
            diagonal = above;
        }
    }
    return row[b.size()];
}

std::string unknown_key(std::string_view key, std::initializer_list<std::string_view> known) {
    if (key.size() <= 32) {  // a longer one is no slip of the keyboard
        const auto nearest = std::min_element(known.begin(), known.end(), [&](auto a, auto b) {
            return edit_distance(key, a) < edit_distance(key, b);
        });
        if (edit_distance(key, *nearest) <= std::max<size_t>(2, nearest->size() / 2))
            return fmt::format("unknown key; did you mean \"{}\"?", *nearest);
    }
    return fmt::format("unknown key; known are {}", fmt::join(known, ", "));
}

}  // namespace

int line_of(const YAML::Node& node) { return std::max(node.Mark().line, 0) + 1; }

void YamlFile::fault(int line, const std::string& field, const std::string& message) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(
        field.empty() ? fmt::format("{}:{}: {}", path_, line, message)
                      : fmt::format("{}:{}: {}: {}", path_, line, field, message));
}

int YamlFile::line_of(std::string field) const {
    while (true) {
        const auto found = lines_.find(field);
        if (found != lines_.end()) return found->second;
        const size_t end = field.find_last_of(".[");
        if (end == std::string::npos) return 1;
        field.resize(end);
    }
}

YamlFields::YamlFields(YamlFile& file, const YAML::Node& node, std::string field,
                       std::initializer_list<std::string_view> known)
    : file_(file), node_(node), field_(std::move(field)) {
    if (!node_.IsMap()) {
        file_.fault(line_of(node_), field_, "is no mapping of keys to values");
        node_ = YAML::Node(YAML::NodeType::Map);
        return;
    }
    std::set<std::string> seen;
    for (const auto& entry : node_) {
        const int line = line_of(entry.first);
        if (!entry.first.IsScalar()) {
            file_.fault(line, field_, "has a key that is no word");
            continue;
        }
        const std::string& key = entry.first.Scalar();
        file_.note_line(this->field(key), line);
        if (std::find(known.begin(), known.end(), key) == known.end())
            file_.fault(line, this->field(key), unknown_key(key, known));
        if (!seen.insert(key).second) file_.fault(line, this->field(key), "is there twice");
    }
}

std::string YamlFields::field(std::string_view key) const {
    return field_.empty() ? std::string(key) : fmt::format("{}.{}", field_, key);
}

YAML::Node YamlFields::child(std::string_view key) const {
    for (const auto& entry : node_)
        if (entry.first.IsScalar() && entry.first.Scalar() == key) return entry.second;
    return YAML::Node(YAML::NodeType::Null);
}

void YamlFields::fault(std::string_view key, const std::string& message) const {
    const std::string name = field(key);
    file_.fault(file_.line_of(name), name, message);
}

std::optional<std::string> YamlFields::text(std::string_view key) const {
    const YAML::Node node = child(key);
    if (node.IsNull()) return std::nullopt;
    if (node.IsScalar()) return node.Scalar();
    fault(key, "is no text");
    return std::nullopt;
}

std::optional<bool> YamlFields::boolean(std::string_view key) const {
    const std::optional<std::string> value = text(key);
    if (!value) return std::nullopt;
    if (*value == "true" || *value == "yes" || *value == "on") return true;
    if (*value == "false" || *value == "no" || *value == "off") return false;
    fault(key, fmt::format("\"{}\" is neither true nor false", *value));
    return std::nullopt;
}

std::optional<uint32_t> YamlFields::number(std::string_view key) const {
    const std::optional<std::string> value = text(key);
    if (!value) return std::nullopt;
    const bool digits = !value->empty() && value->size() <= 10 &&
                        value->find_first_not_of("0123456789") == std::string::npos;
    const uint64_t number = digits ? std::stoull(*value) : 0;
    if (digits && number <= std::numeric_limits<uint32_t>::max())
        return static_cast<uint32_t>(number);
    fault(key, fmt::format("\"{}\" is no whole number", *value));
    return std::nullopt;
}

std::optional<Bytes> YamlFields::bytes(std::string_view key) const {
    const std::optional<std::string> value = text(key);
    if (!value) return std::nullopt;
    const absl::StatusOr<Bytes> size = parse_bytes(*value);
    if (size.ok()) return *size;
    fault(key, std::string(size.status().message()));
    return std::nullopt;
}

std::vector<YAML::Node> YamlFields::list(std::string_view key) const {
    const YAML::Node node = child(key);
    if (node.IsNull()) return {};
    if (!node.IsSequence()) {
        fault(key, "is no list");
        return {};
    }
    std::vector<YAML::Node> items;
    int index = 0;
    for (const auto& item : node) {
        file_.note_line(fmt::format("{}[{}]", field(key), index++), line_of(item));
        items.push_back(item);
    }
    return items;
}

}  // namespace godwit
