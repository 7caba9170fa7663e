// Protobuf messages as JSON for people and scripts: snake_case names, numbers as JSON numbers,
// every field printed, enum values as words ("needs-operator"). Protobuf's own JSON prints 64-bit
// numbers as strings, which is why this exists.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <string>

namespace godwit {

nlohmann::ordered_json to_json(const google::protobuf::Message& message);

// The word for an enum value: its name without the enum's prefix, lower case, '_' as '-'.
std::string enum_word(const google::protobuf::EnumDescriptor& type, int value);

template <typename Enum>
std::string enum_word(Enum value) {
    return enum_word(*google::protobuf::GetEnumDescriptor<Enum>(), static_cast<int>(value));
}

}  // namespace godwit
