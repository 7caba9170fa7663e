// Trouble: what goes wrong in one simulated migration, and when; and the operator who helps.
#pragma once

#include <string_view>

#include "tests/sim/destination_agent.h"
#include "tests/sim/source_agent.h"

namespace godwit::sim {

// Ends by itself after a while: agents come back, links heal, disks have room again.
class Trouble {
  public:
    explicit Trouble(Hosts& hosts);
    // Seen by the world before each step of either agent.
    void on_step(std::string_view step);
    // An operator looks after a guest that is in doubt.
    void watch_doubt();

    [[nodiscard]] bool was_in_doubt() const { return was_in_doubt_; }
    [[nodiscard]] bool operator_spoke() const { return operator_spoke_; }
    // The last word was that it is at the source, and that the destination will never run it.
    [[nodiscard]] bool gave_back() const { return gave_back_; }
    // It was that the guest is lost with the destination.
    [[nodiscard]] bool said_to_be_lost() const { return said_to_be_lost_; }

  private:
    enum class Kind {
        kKillSource,
        kKillDestination,
        kStopSource,
        kStopDestination,
        kKillGuard,
        kKillSourceQemu,
        kKillDestinationQemu,
        kCut,
        kLoseFrame,
        kRepeatFrame,
        kDelayFrame,
        kHalfOpen,
        kSlowPeer,
        kRebootSource,
        kRebootDestination,
        kSourceDiskFull,
        kDestinationDiskFull,
        kSlowSourceQemu,
        kSlowDestinationQemu,
        kContRefused,
        kLoadFails,
        kCancel,
        // Only of those whose last pages follow them:
        kDamagePages,
        kUnlinkKeptRam,
        kWipeDestination,
        kCount,
    };
    struct Planned {
        uint64_t at_step;
        Kind kind;
    };
    void happen(Kind kind);
    void lose_destination(Kind kind);
    void follow_with_source(Kind kind);
    void kill_source();
    void kill_destination();
    void bring_source_back();
    void bring_destination_back();
    void operator_looks();
    void operator_speaks(Fate fate);
    [[nodiscard]] bool would_spoil_the_word(Kind kind) const;

    Hosts& hosts_;
    std::vector<Planned> planned_;
    uint64_t steps_ = 0;
    bool hasty_operator_;
    bool was_in_doubt_ = false;
    bool operator_spoke_ = false;
    std::weak_ptr<SourceAgent> told_;
    bool mind_is_made_up_ = false;  // the operator will say: source
    bool gave_back_ = false;        // and has said it
    bool said_to_be_lost_ = false;
};

}  // namespace godwit::sim
