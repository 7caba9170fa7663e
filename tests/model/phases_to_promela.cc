// Prints the tables of engine/handover/phases as Promela: a number for each phase, and for each
// frame what hearing it makes of the hearer's phase. The model has no other list of what is legal
// when.
#include <fmt/format.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/handover/phases.h"

namespace godwit {
namespace {

constexpr uint16_t kFrameKinds = static_cast<uint16_t>(FrameKind::kDamaged) + 1;

// "S_SAVING_SERVED"
std::string constant(char side, std::string_view name) {
    std::string text = fmt::format("{}_", side);
    for (const char c : name) text += c == '-' ? '_' : static_cast<char>(c - 'a' + 'A');
    return text;
}

std::string identifier(std::string_view name) {
    std::string text(name);
    for (char& c : text)
        if (c == '-') c = '_';
    return text;
}

// By the phase that follows: those that it follows on.
using Steps = std::map<std::string, std::vector<std::string>>;

void print_hearing(const std::string& name, const std::string& phase, const Steps& steps) {
    if (steps.empty()) return;
    fmt::print("inline {}() {{\n    if\n", name);
    for (const auto& [to, from_all] : steps) {
        std::string any;
        for (const std::string& from : from_all)
            any += fmt::format("{}{} == {}", any.empty() ? "" : " || ", phase, from);
        fmt::print("    :: {} -> {} = {}\n", any, phase, to);
    }
    fmt::print("    :: else -> check(!up, illegal_frame)\n    fi\n}}\n");
}

void print_constants() {
    for (int i = 0; i < kSourcePhaseCount; ++i)
        fmt::print("#define {} {}\n", constant('S', phase_name(static_cast<SourcePhase>(i))), i);
    for (int i = 0; i < kDestinationPhaseCount; ++i)
        fmt::print("#define {} {}\n", constant('D', phase_name(static_cast<DestinationPhase>(i))),
                   i);
}

void print_source(FrameKind frame) {
    Steps steps;
    for (int i = 0; i < kSourcePhaseCount; ++i) {
        const auto from = static_cast<SourcePhase>(i);
        if (const auto to = after(from, frame))
            steps[constant('S', phase_name(*to))].push_back(constant('S', phase_name(from)));
    }
    print_hearing("source_hears_" + identifier(frame_kind_name(frame)), "s_phase", steps);
}

void print_destination(StreamKind stream, FrameKind frame) {
    Steps steps;
    for (int i = 0; i < kDestinationPhaseCount; ++i) {
        const auto from = static_cast<DestinationPhase>(i);
        if (const auto to = after(from, stream, frame))
            steps[constant('D', phase_name(*to))].push_back(constant('D', phase_name(from)));
    }
    print_hearing(
        fmt::format("destination_hears_{}_{}", stream == StreamKind::kData ? "data" : "urgent",
                    identifier(frame_kind_name(frame))),
        "d_phase", steps);
}

void print_all() {
    fmt::print("/* Made from engine/handover/phases by phases_to_promela. */\n");
    print_constants();
    for (uint16_t kind = 1; kind < kFrameKinds; ++kind) {
        const auto frame = static_cast<FrameKind>(kind);
        print_source(frame);
        for (const StreamKind stream : {StreamKind::kData, StreamKind::kUrgent})
            print_destination(stream, frame);
    }
}

}  // namespace
}  // namespace godwit

int main() {
    godwit::print_all();
    return 0;
}
