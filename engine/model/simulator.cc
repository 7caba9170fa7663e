#include "engine/model/simulator.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <queue>
#include <utility>

#include "engine/base/units.h"

namespace godwit {
namespace {

constexpr double kSimPage = static_cast<double>(kPageBytes);
// A round with fewer pages says more about latency than about the rate (as engine/source has it).
constexpr double kLeastTelling = 2048;

enum class SimStep { kWaiting, kSetup, kRoundOverhead, kRound, kPause, kRest, kFaults, kOver };

struct SimVmState {
    SimStep step = SimStep::kWaiting;
    double since_s = 0;     // of the pages left
    double bytes_left = 0;  // page bytes of a transfer
    double rate = 0;        // page bytes per second
    double round_began_s = 0;
    double guest_s = 0;  // the guest's own time at the round's begin
    double sent_pages = 0;
    double dirty_pages = 0;
    double stopped_s = 0;
    double seen_rate = 0;   // page rate of the last round that could tell
    double dirty_rate = 0;  // pages per second in the last round
    bool is_cut = false;    // the guest has to resume before this round is over
    uint64_t version = 0;   // of its event in the queue
};

struct SimEvent {
    double at_s = 0;
    uint32_t vm = 0;
    uint64_t version = 0;
    bool operator>(const SimEvent& other) const {
        return at_s != other.at_s ? at_s > other.at_s : vm > other.vm;
    }
};

struct SimHostState {
    std::vector<uint32_t> out;  // VMs whose pages flow now
    std::vector<uint32_t> in;
    uint32_t busy_out = 0;  // migrations under way
    uint32_t busy_in = 0;
    std::deque<uint32_t> waiting;   // VMs of this source
    std::vector<uint32_t> blocked;  // sources with a VM that waits for this destination
};

class Simulator {
  public:
    Simulator(std::span<const SimulatedVm> vms, std::span<const SimulatedHost> hosts)
        : vms_(vms), hosts_(hosts), states_(vms.size()), host_states_(hosts.size()) {
        result_.migrations.resize(vms.size());
    }

    absl::StatusOr<Simulation> run() {
        for (uint32_t vm = 0; vm < vms_.size(); ++vm)
            host_states_[vms_[vm].source].waiting.push_back(vm);
        for (uint32_t host = 0; host < hosts_.size(); ++host) begin_waiting(host);
        while (!queue_.empty()) {
            const SimEvent event = queue_.top();
            queue_.pop();
            if (states_[event.vm].version != event.version) continue;
            if (++result_.events > kMostSimulatedEvents)
                return absl::ResourceExhaustedError(
                    "The simulation has too many events: simulate fewer VMs or fewer rounds");
            now_s_ = event.at_s;
            advance(event.vm);
        }
        result_.total_s = now_s_;
        return std::move(result_);
    }

  private:
    void begin_waiting(uint32_t host) {
        SimHostState& source = host_states_[host];
        for (auto next = source.waiting.begin();
             next != source.waiting.end() && source.busy_out < hosts_[host].at_a_time;) {
            const uint32_t destination = vms_[*next].destination;
            if (host_states_[destination].busy_in >= hosts_[destination].at_a_time) {
                host_states_[destination].blocked.push_back(host);
                ++next;  // another VM, to another host, may go before it
                continue;
            }
            const uint32_t vm = *next;
            next = source.waiting.erase(next);
            ++source.busy_out;
            ++host_states_[destination].busy_in;
            result_.migrations[vm].begin_s = now_s_;
            pass(vm, SimStep::kSetup, vms_[vm].costs.setup_s);
        }
    }

    // A step that only takes time.
    void pass(uint32_t vm, SimStep step, double seconds) {
        states_[vm].step = step;
        schedule(vm, now_s_ + seconds);
    }

    void schedule(uint32_t vm, double at_s) { queue_.push({at_s, vm, ++states_[vm].version}); }

    // A step that moves pages.
    void transfer(uint32_t vm, SimStep step, double pages) {
        SimVmState& state = states_[vm];
        state.step = step;
        state.bytes_left = pages * kSimPage;
        state.since_s = now_s_;
        result_.migrations[vm].page_bytes += state.bytes_left;
        host_states_[vms_[vm].source].out.push_back(vm);
        host_states_[vms_[vm].destination].in.push_back(vm);
        share_again(vm);
    }

    void end_transfer(uint32_t vm) {
        std::erase(host_states_[vms_[vm].source].out, vm);
        std::erase(host_states_[vms_[vm].destination].in, vm);
        share_again(vm);
    }

    // The shares of all whose pages flow at the VM's two hosts.
    void share_again(uint32_t vm) {
        for (const uint32_t other : host_states_[vms_[vm].source].out) share(other);
        for (const uint32_t other : host_states_[vms_[vm].destination].in) share(other);
    }

    void share(uint32_t vm) {
        const SimulatedVm& of = vms_[vm];
        SimVmState& state = states_[vm];
        const double out =
            hosts_[of.source].link_rate / static_cast<double>(host_states_[of.source].out.size());
        const double in = hosts_[of.destination].link_rate /
                          static_cast<double>(host_states_[of.destination].in.size());
        const double link = std::min(out, in);
        const double rate = of.wire_share > 0 ? std::min(link / of.wire_share, of.most_page_rate)
                                              : of.most_page_rate;
        state.bytes_left = std::max(0.0, state.bytes_left - state.rate * (now_s_ - state.since_s));
        state.since_s = now_s_;
        state.rate = rate;
        const double left_s = state.bytes_left / rate;
        const double cut_s = state.step == SimStep::kRound ? time_to_cut(vm) : left_s;
        state.is_cut = cut_s < left_s;
        schedule(vm, now_s_ + std::min(cut_s, left_s));
    }

    // Until this round has to be cut for all to be over by the deadline; longer than the round: it
    // has not. As the engine sees it: with what has been written meanwhile, at the rate of the last
    // round, the rest can grow, though what the round has to send shrinks.
    [[nodiscard]] double time_to_cut(uint32_t vm) const {
        const SimulatedVm& of = vms_[vm];
        const SimVmState& state = states_[vm];
        if (of.finish_by_s <= 0) return kLongestTime_s;
        const double page_rate = state.rate / kSimPage;
        const double left = state.bytes_left / kSimPage;
        const double sent = state.sent_pages - left;
        const double written = state.dirty_rate * (now_s_ - state.round_began_s);
        const double rewritten = std::min(sent, written);
        const double spare_s = of.finish_by_s - (now_s_ - result_.migrations[vm].begin_s) -
                               kPushAllowance * (left + rewritten) / page_rate;
        if (spare_s <= 0) return 0;
        // A second of the round takes one of these while all that it has sent is written again, ...
        if (page_rate <= state.dirty_rate) return spare_s;
        const double all_again_s = std::max(written - sent, 0.0) / (page_rate - state.dirty_rate);
        if (spare_s <= all_again_s) return spare_s;
        // ... and then less, or gives some back.
        const double loss = 1 - kPushAllowance * (1 - state.dirty_rate / page_rate);
        return loss > 0 ? all_again_s + (spare_s - all_again_s) / loss : kLongestTime_s;
    }

    // As the engine sees it, for all to be over by its deadline.
    [[nodiscard]] bool has_to_resume(uint32_t vm, double pages_left, double page_rate) const {
        const SimulatedVm& of = vms_[vm];
        return must_switch_by(from_seconds(of.finish_by_s),
                              from_seconds(now_s_ - result_.migrations[vm].begin_s),
                              static_cast<uint64_t>(pages_left), page_rate);
    }

    void advance(uint32_t vm) {
        SimVmState& state = states_[vm];
        const ConvergenceLimits& limits = vms_[vm].limits;
        switch (state.step) {
            case SimStep::kSetup:
                if (limits.strategy == Strategy::kPrecopy || limits.strategy == Strategy::kHybrid)
                    return begin_round(vm, vms_[vm].touched_pages);
                state.dirty_pages = vms_[vm].touched_pages;
                return stop(vm, limits.strategy == Strategy::kPostcopy ? NextStep::kPostcopy
                                                                       : NextStep::kStopAndCopy);
            case SimStep::kRound:
                if (state.is_cut) return cut_round(vm);
                finish_flow(vm);
                return pass(vm, SimStep::kRoundOverhead, vms_[vm].costs.per_round_s);
            case SimStep::kRoundOverhead:
                return end_round(vm);
            case SimStep::kPause:
                if (result_.migrations[vm].end == NextStep::kPostcopy) resume(vm);
                return transfer(vm, SimStep::kRest, state.dirty_pages);
            case SimStep::kRest:
                finish_flow(vm);
                if (result_.migrations[vm].end != NextStep::kPostcopy) return resume(vm);
                return pass(vm, SimStep::kFaults, count_faults(vm) * vms_[vm].costs.fault_s);
            case SimStep::kFaults:
                return leave(vm);
            case SimStep::kWaiting:
            case SimStep::kOver:
                return;
        }
    }

    void finish_flow(uint32_t vm) {
        end_transfer(vm);
        states_[vm].rate = 0;
    }

    void begin_round(uint32_t vm, double pages) {
        states_[vm].round_began_s = now_s_;
        states_[vm].sent_pages = pages;
        transfer(vm, SimStep::kRound, pages);
    }

    // What the guest has written since the round began.
    void collect(uint32_t vm) {
        SimVmState& state = states_[vm];
        const SimulatedVm& of = vms_[vm];
        SimulatedMigration& migration = result_.migrations[vm];
        const double own_s =
            (now_s_ - state.round_began_s) * (100 - migration.throttle_percent) / 100;
        state.dirty_pages = std::min(
            of.writer->distinct_pages(state.guest_s, state.guest_s + own_s), of.touched_pages);
        state.guest_s += own_s;
        ++migration.rounds;
    }

    void cut_round(uint32_t vm) {
        SimVmState& state = states_[vm];
        collect(vm);
        state.bytes_left = std::max(0.0, state.bytes_left - state.rate * (now_s_ - state.since_s));
        state.dirty_pages =
            std::min(state.dirty_pages + state.bytes_left / kSimPage, vms_[vm].touched_pages);
        result_.migrations[vm].page_bytes -= state.bytes_left;
        finish_flow(vm);
        stop(vm, NextStep::kPostcopy);
    }

    void end_round(uint32_t vm) {
        SimVmState& state = states_[vm];
        const SimulatedVm& of = vms_[vm];
        SimulatedMigration& migration = result_.migrations[vm];
        const double round_s = now_s_ - state.round_began_s;
        collect(vm);
        const double send_s = std::max(round_s - of.costs.per_round_s, 1e-9);
        // As the engine: a round too small to tell keeps the rate that was seen before.
        if (state.sent_pages >= kLeastTelling || state.seen_rate == 0)
            state.seen_rate = state.sent_pages * kSimPage / send_s;
        const auto dirty = static_cast<uint64_t>(state.dirty_pages + 0.5);
        const Decision decision =
            decide({.rounds_done = migration.rounds,
                    .duration = from_seconds(round_s),
                    .round_pages = static_cast<uint64_t>(state.sent_pages + 0.5),
                    .dirty_pages = dirty,
                    .unsettled_pages = dirty,
                    .page_rate = state.seen_rate,
                    .check_rate = state.seen_rate,
                    .total_page_bytes = static_cast<Bytes>(migration.page_bytes),
                    .touched = static_cast<Bytes>(of.touched_pages * kSimPage),
                    .fixed_cost = from_seconds(of.costs.pause_s)},
                   of.limits);
        state.dirty_rate = decision.dirty_pages_per_s;
        const bool is_due = decision.step != NextStep::kSwitch &&
                            has_to_resume(vm, state.dirty_pages, state.seen_rate);
        act(vm, is_due ? NextStep::kPostcopy : decision.step);
    }

    void act(uint32_t vm, NextStep step) {
        SimulatedMigration& migration = result_.migrations[vm];
        switch (step) {
            case NextStep::kThrottle:
                migration.throttle_percent = next_throttle_percent(migration.throttle_percent);
                [[fallthrough]];
            case NextStep::kRound:
            case NextStep::kSettlingRound:
                return begin_round(vm, states_[vm].dirty_pages);
            case NextStep::kGiveUp:
                migration.end = step;
                return leave(vm);
            case NextStep::kSwitch:
            case NextStep::kStopAndCopy:
            case NextStep::kPostcopy:
                return stop(vm, step);
        }
    }

    void stop(uint32_t vm, NextStep step) {
        result_.migrations[vm].end = step;
        states_[vm].stopped_s = now_s_;
        pass(vm, SimStep::kPause, vms_[vm].costs.pause_s);
    }

    void resume(uint32_t vm) {
        SimulatedMigration& migration = result_.migrations[vm];
        migration.downtime_s = now_s_ - states_[vm].stopped_s;
        if (migration.end == NextStep::kPostcopy)
            states_[vm].round_began_s = now_s_;
        else
            leave(vm);
    }

    // The mean of U over the drain, as working_set.h has it; faults have to be waited for.
    double count_faults(uint32_t vm) {
        SimVmState& state = states_[vm];
        const SimulatedVm& of = vms_[vm];
        SimulatedMigration& migration = result_.migrations[vm];
        const double drain_s = now_s_ - state.round_began_s;
        constexpr int kSteps = 8;
        double mean = 0;
        for (int i = 0; i < kSteps; ++i)
            mean += of.writer->distinct_pages(state.guest_s,
                                              state.guest_s + drain_s * (i + 0.5) / kSteps) /
                    kSteps;
        if (of.touched_pages > 0)
            migration.faults =
                std::min(state.dirty_pages, mean * state.dirty_pages / of.touched_pages);
        return migration.faults;
    }

    void leave(uint32_t vm) {
        states_[vm].step = SimStep::kOver;
        ++states_[vm].version;
        result_.migrations[vm].end_s = now_s_;
        const uint32_t destination = vms_[vm].destination;
        --host_states_[vms_[vm].source].busy_out;
        --host_states_[destination].busy_in;
        begin_waiting(vms_[vm].source);
        for (const uint32_t host : std::exchange(host_states_[destination].blocked, {}))
            begin_waiting(host);
    }

    std::span<const SimulatedVm> vms_;
    std::span<const SimulatedHost> hosts_;
    std::vector<SimVmState> states_;
    std::vector<SimHostState> host_states_;
    std::priority_queue<SimEvent, std::vector<SimEvent>, std::greater<>> queue_;
    Simulation result_;
    double now_s_ = 0;
};

absl::Status check_vm(const SimulatedVm& vm, size_t host_count) {
    if (vm.source >= host_count || vm.destination >= host_count || vm.source == vm.destination)
        return absl::InvalidArgumentError("A simulated VM needs two of the hosts");
    if (vm.writer == nullptr) return absl::InvalidArgumentError("A simulated VM needs a writer");
    GODWIT_RETURN_IF_ERROR(check_range("number of touched pages", vm.touched_pages, 0, kMostPages));
    GODWIT_RETURN_IF_ERROR(
        check_range("page rate in bytes per second", vm.most_page_rate, kLeastRate, kMostRate));
    GODWIT_RETURN_IF_ERROR(check_range("wire bytes per page byte", vm.wire_share, 0, 2));
    GODWIT_RETURN_IF_ERROR(check_range("deadline in seconds", vm.finish_by_s, 0, kLongestTime_s));
    for (const double cost :
         {vm.costs.setup_s, vm.costs.per_round_s, vm.costs.pause_s, vm.costs.fault_s})
        GODWIT_RETURN_IF_ERROR(check_range("fixed cost in seconds", cost, 0, kLongestTime_s));
    return check_range("number of rounds", vm.limits.max_rounds, 1, kMostRoundsModelled);
}

}  // namespace

absl::StatusOr<Simulation> simulate(std::span<const SimulatedVm> vms,
                                    std::span<const SimulatedHost> hosts) {
    for (const SimulatedHost& host : hosts) {
        GODWIT_RETURN_IF_ERROR(
            check_range("link rate in bytes per second", host.link_rate, kLeastRate, kMostRate));
        GODWIT_RETURN_IF_ERROR(
            check_range("number of migrations at a time", host.at_a_time, 1, kMostRoundsModelled));
    }
    for (const SimulatedVm& vm : vms) GODWIT_RETURN_IF_ERROR(check_vm(vm, hosts.size()));
    return Simulator(vms, hosts).run();
}

}  // namespace godwit
