// Two hosts of a network, on this one: a namespace each, and a cable between them that can be cut,
// or that lies.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/harness/agent.h"
#include "tests/harness/command.h"
#include "tests/harness/lying_cable.h"

namespace godwit::testing {

// Nothing of it outlives the processes that run in the namespaces.
class LinkedHosts {
  public:
    enum class Cable { kTrue, kLying };
    explicit LinkedHosts(Cable cable = Cable::kTrue);
    LinkedHosts(const LinkedHosts&) = delete;
    LinkedHosts& operator=(const LinkedHosts&) = delete;

    // Why there are none, or empty.
    [[nodiscard]] const std::string& problem() const { return problem_; }
    // For an agent on the host 0 or 1; without namespaces where there are none.
    [[nodiscard]] AgentOptions on(int host) const;
    // Takes the cable out of a host, or puts it back.
    void set_link(int host, bool up);
    // What a host sends is lost, and nobody is told; what it is sent still comes. Only for
    // Cable::kTrue, as the next one.
    void set_mute(int host, bool mute);
    // The cable takes 5 MB/s, and either host has more than that to send to nobody.
    void set_crowded(bool crowded);
    // For Cable::kLying where there is no problem().
    [[nodiscard]] LyingCable& lying_cable() { return *lying_cable_; }

  private:
    [[nodiscard]] std::vector<std::string> inside(int host,
                                                  const std::vector<std::string>& words) const;
    bool make(Cable cable);
    bool lay(Cable cable);
    bool did(const std::vector<std::string>& words);

    std::optional<BackgroundCommand> holders_[2];
    std::optional<BackgroundCommand> crowds_[2];
    std::unique_ptr<LyingCable> lying_cable_;
    std::string problem_;
};

}  // namespace godwit::testing
