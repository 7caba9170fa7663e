// Reading typed fields from YAML with the place of every fault; yaml-cpp's exceptions stop here.
#pragma once

#include <yaml-cpp/yaml.h>

#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

// Lines of the fields that were read, and the first fault. Single-threaded; used for one file.
class YamlFile {
  public:
    explicit YamlFile(std::string path) : path_(std::move(path)) {}

    // Keeps "<file>:<line>: <field>: <message>" unless there is an earlier fault.
    void fault(int line, const std::string& field, const std::string& message);
    [[nodiscard]] const absl::Status& status() const { return status_; }
    void note_line(const std::string& field, int line) { lines_[field] = line; }
    // Of the field, else of the nearest field that holds it, else 1.
    [[nodiscard]] int line_of(std::string field) const;

  private:
    std::string path_;
    std::map<std::string, int> lines_;
    absl::Status status_;
};

// One mapping of the file. Constructing it refuses unknown and repeated keys, with the nearest
// known key as a suggestion. Getters return nothing (and note a fault) when the type is wrong, and
// nothing (without one) when the key is absent or null.
class YamlFields {
  public:
    YamlFields(YamlFile& file, const YAML::Node& node, std::string field,
               std::initializer_list<std::string_view> known);

    [[nodiscard]] YAML::Node child(std::string_view key) const;
    [[nodiscard]] std::string field(std::string_view key) const;
    [[nodiscard]] std::optional<std::string> text(std::string_view key) const;
    [[nodiscard]] std::optional<bool> boolean(std::string_view key) const;
    [[nodiscard]] std::optional<uint32_t> number(std::string_view key) const;
    [[nodiscard]] std::optional<Bytes> bytes(std::string_view key) const;
    // Items of a list; empty when the key is absent or is no list (a fault).
    [[nodiscard]] std::vector<YAML::Node> list(std::string_view key) const;

    void fault(std::string_view key, const std::string& message) const;

  private:
    YamlFile& file_;
    YAML::Node node_;
    std::string field_;
};

// 1-based, of a node that was read from a file.
int line_of(const YAML::Node& node);

}  // namespace godwit
