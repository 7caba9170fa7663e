#include "engine/source/fate.h"

namespace godwit {
namespace {

FateAnswer lost_there(const v1::QueryResponse& answer) {
    return {.fate = Fate::kAtDestination, .guest_gone = true, .detail = answer.detail()};
}

}  // namespace

std::optional<FateAnswer> fate_in(const v1::QueryResponse& answer, SourceCopy copy) {
    const bool resumed = answer.state() == v1::INCOMING_STATE_RESUMED;
    if (answer.draining()) {
        if (answer.missing_pages() == 0) return std::nullopt;
        if (!resumed && copy == SourceCopy::kStands) return std::nullopt;
        return FateAnswer{
            .fate = Fate::kAtDestination, .lacks_pages = true, .detail = answer.detail()};
    }
    if (resumed)
        return FateAnswer{.fate = Fate::kAtDestination,
                          .guest_gone = answer.guest_gone(),
                          .detail = answer.detail()};
    if (answer.state() == v1::INCOMING_STATE_REFUSED) {
        if (copy == SourceCopy::kLeft) return lost_there(answer);
        return FateAnswer{.fate = Fate::kRefused, .detail = answer.detail()};
    }
    if (answer.state() == v1::INCOMING_STATE_UNKNOWN && answer.guest_gone() &&
        copy != SourceCopy::kStands)
        return lost_there(answer);
    return std::nullopt;
}

bool knows_fate(const absl::StatusOr<v1::QueryResponse>& answer) {
    return answer.ok() && answer->state() != v1::INCOMING_STATE_UNKNOWN;
}

std::string operators_word_text(Fate fate) {
    switch (fate) {
        case Fate::kAtDestination:
            return "an operator said that the guest is at the destination";
        case Fate::kRefused:
            return "an operator said that the guest is at the source, and that the destination "
                   "will never run it";
        case Fate::kNowhere:
            return "an operator said that the guest is lost with the destination";
    }
    return "an operator said where the guest is";
}

}  // namespace godwit
