#include "engine/source/fate.h"

#include <fmt/format.h>

namespace godwit {
namespace {

FateAnswer lost_there(const v1::QueryResponse& answer) {
    return {.fate = Fate::kAtDestination, .guest_gone = true, .detail = answer.detail()};
}

}  // namespace

std::optional<FateAnswer> fate_in(const v1::QueryResponse& answer, SourceCopy copy) {
    const bool resumed = answer.state() == v1::INCOMING_STATE_RESUMED;
    if (answer.draining()) {
        if (!answer.has_missing_pages() || answer.missing_pages() == 0) return std::nullopt;
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

std::string undecided_text(const v1::QueryResponse& answer) {
    const std::string state = v1::IncomingState_Name(answer.state());
    std::string said = answer.detail().empty() ? state : answer.detail();
    if (!answer.draining()) return said;
    if (answer.has_missing_pages())
        return fmt::format("{}; {} pages are missing there", said, answer.missing_pages());
    return said +
           "; its agent is older and does not say whether pages are missing there: if the guest "
           "waits there for good, end it (godwit vm stop --force), and start it anew";
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
