#include "engine/report/json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/reflection.h>

#include <cctype>

namespace godwit {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using nlohmann::ordered_json;

// The value of a field: element `index` of a repeated one, the field itself when index is -1.
ordered_json value_of(const Message& message, const FieldDescriptor& field, int index) {
    const auto& reflect = *message.GetReflection();
    const FieldDescriptor* f = &field;
    const bool repeated = index >= 0;
    switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_BOOL:
            return repeated ? reflect.GetRepeatedBool(message, f, index)
                            : reflect.GetBool(message, f);
        case FieldDescriptor::CPPTYPE_INT32:
            return repeated ? reflect.GetRepeatedInt32(message, f, index)
                            : reflect.GetInt32(message, f);
        case FieldDescriptor::CPPTYPE_INT64:
            return repeated ? reflect.GetRepeatedInt64(message, f, index)
                            : reflect.GetInt64(message, f);
        case FieldDescriptor::CPPTYPE_UINT32:
            return repeated ? reflect.GetRepeatedUInt32(message, f, index)
                            : reflect.GetUInt32(message, f);
        case FieldDescriptor::CPPTYPE_UINT64:
            return repeated ? reflect.GetRepeatedUInt64(message, f, index)
                            : reflect.GetUInt64(message, f);
        case FieldDescriptor::CPPTYPE_DOUBLE:
            return repeated ? reflect.GetRepeatedDouble(message, f, index)
                            : reflect.GetDouble(message, f);
        case FieldDescriptor::CPPTYPE_FLOAT:
            return repeated ? reflect.GetRepeatedFloat(message, f, index)
                            : reflect.GetFloat(message, f);
        case FieldDescriptor::CPPTYPE_ENUM:
            return enum_word(*field.enum_type(),
                             repeated ? reflect.GetRepeatedEnumValue(message, f, index)
                                      : reflect.GetEnumValue(message, f));
        case FieldDescriptor::CPPTYPE_STRING:
            return repeated ? reflect.GetRepeatedString(message, f, index)
                            : reflect.GetString(message, f);
        case FieldDescriptor::CPPTYPE_MESSAGE:
            return to_json(repeated ? reflect.GetRepeatedMessage(message, f, index)
                                    : reflect.GetMessage(message, f));
    }
    return nullptr;
}

}  // namespace

std::string enum_word(const google::protobuf::EnumDescriptor& type, int value) {
    const auto* entry = type.FindValueByNumber(value);
    if (entry == nullptr) return std::to_string(value);
    std::string word = entry->name();
    // The prefix is the enum's own name in capitals: GuestAt -> GUEST_AT_.
    std::string prefix;
    for (char letter : type.name()) {
        if (std::isupper(static_cast<unsigned char>(letter)) && !prefix.empty()) prefix += '_';
        prefix += static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
    }
    prefix += '_';
    if (word.rfind(prefix, 0) == 0) word.erase(0, prefix.size());
    for (char& letter : word)
        letter = letter == '_'
                     ? '-'
                     : static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    return word;
}

ordered_json to_json(const Message& message) {
    ordered_json object = ordered_json::object();
    const auto& type = *message.GetDescriptor();
    const auto& reflect = *message.GetReflection();
    for (int i = 0; i < type.field_count(); ++i) {
        const FieldDescriptor& field = *type.field(i);
        if (field.is_repeated()) {
            ordered_json list = ordered_json::array();
            for (int k = 0; k < reflect.FieldSize(message, &field); ++k)
                list.push_back(value_of(message, field, k));
            object[field.name()] = std::move(list);
        } else if (field.containing_oneof() == nullptr || reflect.HasField(message, &field)) {
            object[field.name()] = value_of(message, field, -1);
        }
    }
    return object;
}

}  // namespace godwit
