// What became of a guest of which COMMIT was sent: what the source concludes from what the
// destination says, or an operator for it. Pure.
#pragma once

#include <optional>
#include <string>

#include "engine/base/status.h"
#include "godwit/v1/transfer.pb.h"

namespace godwit {

enum class Fate {
    kAtDestination,  // RESUMED: the source must never run it again
    kRefused,        // the destination never ran it and never will
    kNowhere,        // an operator's word alone: it is lost with the destination
};

// What the source still has of it, its memory aside.
enum class SourceCopy {
    kStands,  // its QEMU has not ended, or may not have: it may be the only copy
    kEnded,   // its QEMU has ended, and nobody has heard where the guest is
    kLeft,    // RESUMED was heard, by this agent or an earlier one: nothing here ever runs again
};

struct FateAnswer {
    Fate fate;
    bool guest_gone = false;   // at the destination, and it has ended there
    bool lacks_pages = false;  // at the destination, and nobody has the pages that it waits for
    bool by_operator = false;
    std::string detail;  // the destination's words; may be empty
};

// What an answer to Query or Reconnect settles. Nothing: it is to be asked again. That is said of
//
//   UNKNOWN, no record      the destination may have lost its state directory, and run the guest
//   UNKNOWN, guest_gone     its host was restarted, and whether the guest ran there nobody knows:
//                           enough where nothing stands here either
//   REFUSED after RESUMED   whoever has run the guest can't refuse it. It has it no more, though,
//                           and what is here is not run: it is gone
//   draining                nobody else sends what is missing. With no page missing only a session
//                           or `cont` is still open, and the guest is whole; before RESUMED, with
//                           a QEMU that stands here, the source's is the whole copy. An agent that
//                           does not say what is missing is older: the guest may be whole
std::optional<FateAnswer> fate_in(const v1::QueryResponse& answer, SourceCopy copy);

// What an answer says that settles nothing, for people.
std::string undecided_text(const v1::QueryResponse& answer);

// Whether the destination knows what becomes of it: no operator's word counts beside that.
bool knows_fate(const absl::StatusOr<v1::QueryResponse>& answer);

// The reason in the report.
std::string operators_word_text(Fate fate);

}  // namespace godwit
