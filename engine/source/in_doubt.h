// COMMIT was sent and no answer came: the source goes on asking, and never guesses.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "engine/base/clock.h"
#include "engine/guest/hypervisor.h"
#include "engine/source/fate.h"
#include "engine/source/transfer_client.h"

namespace godwit {

// What an operator says of a guest in doubt, where the destination can't. Either the operator is
// first, and the destination hears of it, or the destination is, and the operator is refused.
// Thread-safe.
class OperatorsWord {
  public:
    explicit OperatorsWord(const Clock& clock = Clock::system()) : clock_(clock) {}
    // The first word counts. Errors: FailedPrecondition (the other word was said before, or the
    // destination has asked lately).
    absl::Status say(Fate fate);
    [[nodiscard]] std::optional<Fate> said() const;
    // A destination that has come back asks: whether the guest was given back to the source.
    bool given_back();
    // A destination that knows has answered after all: nothing was said.
    void forget();
    // Until something was said, `limit` has passed, or `stop` was asked for.
    void wait(Duration limit, const std::stop_token& stop) const;

  private:
    const Clock& clock_;
    mutable std::mutex mutex_;
    mutable std::condition_variable_any changed_;
    std::optional<Fate> fate_;               // guarded by mutex_
    std::optional<MonotonicTime> asked_at_;  // the same: when the destination asked last
};

// Whether there is a guest here that could be given back: its QEMU has not ended. Where it has,
// what the destination holds is the only copy. Never blocks.
bool is_guest_here(const std::weak_ptr<Vm>& guest);
bool is_guest_here(const Vm& guest);

// Whether it runs here, though it is in doubt: somebody let it. An operator's word is to end no
// such guest. One whose QEMU does not answer is not seen to run.
bool is_guest_running(const std::weak_ptr<Vm>& guest);

// What a guest in doubt is settled with.
class Doubt {
  public:
    virtual ~Doubt() = default;
    // What the destination says; an error when it does not answer.
    virtual absl::StatusOr<v1::QueryResponse> ask() = 0;
    virtual SourceCopy copy_here() = 0;
    virtual std::optional<Fate> operators_word() = 0;
    // It does not count: the destination has answered.
    virtual void forget_word() = 0;
    // Until the operator has said something, or `limit` has passed. False: the agent ends, or the
    // pages that were waited for can be sent now.
    virtual bool wait(Duration limit) = 0;
    // What is missing there may be here still: no answer says that it is lost.
    virtual bool may_have_pages() = 0;
    // Once, when the destination has said that the guest runs there, and that settles nothing.
    virtual void note_resumed() = 0;
    // What the operator said, to the disk.
    virtual void note_resolution(Fate fate) = 0;
    // Why it is still in doubt; once per reason.
    virtual void trouble(const std::string& said) = 0;
};

// Asks until the destination says what settles it (fate_in()), the operator does, or the agent ends
// (then nothing is returned: still in doubt), or has the pages that it waited for. An operator's
// word counts only while the destination does not answer or knows nothing, and is on the disk
// before anything is done about it. Pages that are missing there are lost once two answers in a row
// say so: what was on its way has come then.
std::optional<FateAnswer> settle(Doubt& doubt);

// The same over gRPC.
struct DoubtOverGrpc {
    TransferClient& peer;
    const std::string& migration_id;
    OperatorsWord& operators_word;
    std::function<SourceCopy()> copy_here;
    std::function<void(Fate)> note_resolution;
    // What the destination says instead, once each time it changes.
    std::function<void(const std::string&)> heard;
    // Where the guest's last pages can't be sent yet: whether it is known by now that they can be,
    // or never can. None: they can't, and what is missing there is lost.
    std::function<bool()> pages_came = {};
    std::function<void()> note_resumed = {};  // as Doubt's
};
std::optional<FateAnswer> settle_doubt(const DoubtOverGrpc& doubt, const std::stop_token& stop);

}  // namespace godwit
