#include "bench/micro/faults/fault_latency.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <thread>

#include "bench/micro/faults/guest_process.h"
#include "bench/micro/faults/peer_process.h"
#include "dirty-tracking/attach/attach.h"
#include "engine/base/wait.h"
#include "engine/postcopy/fault_server.h"
#include "engine/postcopy/punch_stale.h"
#include "engine/postcopy/realtime.h"

namespace godwit {
namespace {

class SocketAsker : public Asker {
  public:
    explicit SocketAsker(int fd) : fd_(fd) {}
    absl::Status ask(BlockIndex block, PageIndex page) override {
        const PeerRequest request{.block = block, .page = page};
        if (::send(fd_, &request, sizeof request, MSG_NOSIGNAL) == sizeof request)
            return absl::OkStatus();
        return errno_status(errno, "send");
    }

  private:
    int fd_;
};

void receive(int fd, FaultServer& server, bool realtime) {
    if (realtime) run_realtime();
    PeerReader reader(fd);
    PeerHead head;
    std::span<const std::byte> raw;
    while (reader.next(head, raw)) {
        const absl::Status status = server.place(head.block, head.chunk, head.present, head.zero,
                                                 raw, static_cast<PageOrigin>(head.origin));
        if (!status.ok()) fmt::print(stderr, "{}\n", status.ToString());
        if (!status.ok()) return;
    }
}

absl::Status fill_source(const RamBlock& block) {
    std::vector<uint64_t> chunk(kChunkBytes / sizeof(uint64_t));
    for (ChunkIndex i = 0; i < block.chunk_count(); ++i) {
        for (size_t word = 0; word < chunk.size(); ++word)
            chunk[word] = (i * chunk.size() + word) * 0x9e3779b97f4a7c15u | 1;
        GODWIT_RETURN_IF_ERROR(
            write_fully(block.file.get(), chunk.data(), kChunkBytes, i * kChunkBytes));
    }
    return absl::OkStatus();
}

struct Case {
    const char* name;
    bool push;
    uint32_t prepaging;
    bool sequential;
};
constexpr std::array<Case, 4> kCases{{{"random", false, 0, false},
                                      {"random, push", true, 0, false},
                                      {"sequential, prepaging", false, 64, true},
                                      {"seq., prepaging, push", true, 64, true}}};

std::string us(uint64_t ns) { return fmt::format("{:7.1f}", static_cast<double>(ns) / 1000); }

std::string us(Duration time) { return us(static_cast<uint64_t>(time.count())); }

nlohmann::json as_json(const Case& tried, const FaultStats& stats, Duration took) {
    const FaultPercentiles found = stats.percentiles();
    const auto in_us = [](Duration time) { return to_ms(time) * 1e3; };
    return {{"name", tried.name},
            {"real_time", to_ms(took)},
            {"time_unit", "ms"},
            {"faults", found.count},
            {"fault_p50_us", in_us(found.p50)},
            {"fault_p90_us", in_us(found.p90)},
            {"fault_p99_us", in_us(found.p99)},
            {"fault_p999_us", in_us(found.p99_9)},
            {"fault_max_us", in_us(found.max)},
            {"demand_pages", stats.demand_pages},
            {"prepaging_pages", stats.prepaging_pages},
            {"push_pages", stats.push_pages},
            {"duplicate_pages", stats.duplicate_pages}};
}

void report(const Case& tried, const FaultStats& stats, std::span<const uint64_t> touched,
            Duration took) {
    const FaultPercentiles found = stats.percentiles();
    std::vector<uint64_t> waited;
    for (const uint64_t ns : touched)
        if (ns > 5'000) waited.push_back(ns);  // the others were there already
    fmt::print("{:<22} {:>7} {} {} {} {} {} | {} {} {} | {:>7} {:>7} {:>7} {:>6} | {:>6.0f}\n",
               tried.name, found.count, us(found.p50), us(found.p90), us(found.p99),
               us(found.p99_9), us(found.max), us(percentile(waited, 0.5)),
               us(percentile(waited, 0.99)), us(percentile(waited, 0.999)), stats.demand_pages,
               stats.prepaging_pages, stats.push_pages, stats.duplicate_pages, to_ms(took));
}

std::vector<PageIndex> choose_pages(const LatencyOptions& options, bool sequential) {
    std::vector<PageIndex> pages(options.ram / kPageBytes);
    std::iota(pages.begin(), pages.end(), 0);
    std::mt19937_64 random(1);
    if (!sequential) std::shuffle(pages.begin(), pages.end(), random);
    pages.resize(std::min<size_t>(pages.size(), options.faults));
    return pages;
}

absl::Status measure(const LatencyOptions& options, const Case& tried, nlohmann::json& told) {
    GODWIT_RETURN_IF_ERROR(enter_bench_mount(3 * options.ram, options.huge));
    GODWIT_ASSIGN_OR_RETURN(const RamBlock source,
                            make_bench_block("source", options.ram, options.huge));
    GODWIT_RETURN_IF_ERROR(fill_source(source));
    std::vector<RamBlock> blocks;
    GODWIT_ASSIGN_OR_RETURN(RamBlock ram, make_bench_block("ram", options.ram, options.huge));
    blocks.push_back(std::move(ram));
    GODWIT_ASSIGN_OR_RETURN(const auto guest, GuestProcess::start(blocks[0], options.views));
    GODWIT_ASSIGN_OR_RETURN(
        const auto peer,
        PeerProcess::start(source, {.push_rate = tried.push ? options.push_rate : 0,
                                    .push_pages = options.push_pages,
                                    .prepaging = tried.prepaging,
                                    .realtime = options.realtime}));
    GODWIT_ASSIGN_OR_RETURN(Attachment attachment, attach_userfaultfd(guest->pid(), {}));
    GODWIT_ASSIGN_OR_RETURN(
        const auto memory,
        FaultMemory::create(guest->pid(), blocks, std::move(attachment.userfaultfd)));
    GODWIT_RETURN_IF_ERROR(memory->register_all());
    GODWIT_ASSIGN_OR_RETURN(MissingPages missing, MissingPages::create("/tmp/missing", blocks));
    ChunkMask all;
    all.fill(~uint64_t{0});
    for (ChunkIndex chunk = 0; chunk < blocks[0].chunk_count(); ++chunk) missing.set(0, chunk, all);
    GODWIT_ASSIGN_OR_RETURN(const auto server, FaultServer::create(*memory, missing));
    SocketAsker asker(peer->urgent());
    GODWIT_RETURN_IF_ERROR(server->start(FaultMode::kServe));
    server->connection_restored(asker);
    GODWIT_ASSIGN_OR_RETURN(const CpuLatencyHold awake, CpuLatencyHold::take(options.cpu_latency));
    std::jthread urgent([&] { receive(peer->urgent(), *server, options.realtime); });
    std::jthread push([&] { receive(peer->push(), *server, false); });
    const MonotonicTime begin = Clock::system().now();
    if (::write(peer->push(), "", 1) != 1) return errno_status(errno, "write");
    guest->touch(choose_pages(options, tried.sequential), options.views - 1,
                 std::chrono::microseconds(options.think_us));
    const auto touched = guest->touched_ns();
    const Duration took = Clock::system().now() - begin;
    if (options.json)
        told.push_back(as_json(tried, server->stats(), took));
    else
        report(tried, server->stats(), touched, took);
    ::shutdown(peer->urgent(), SHUT_RDWR);
    ::shutdown(peer->push(), SHUT_RDWR);
    urgent.join();
    push.join();
    return server->stop();
}

void print_head(const LatencyOptions& options) {
    fmt::print(
        "\nFault latency in us, {} of RAM, {} tmpfs, {} view(s), push at {}/s in frames of {} "
        "pages, threads {}, idle CPUs {}\n",
        format_bytes(options.ram), options.huge ? "huge" : "4 KiB", options.views,
        format_bytes(options.push_rate), options.push_pages,
        options.realtime ? "SCHED_FIFO" : "ordinary but \"faults\"",
        options.cpu_latency ? fmt::format("wake within {} us", options.cpu_latency->count())
                            : "sleep as the host lets them");
    fmt::print(
        "{:<22} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} | guest's p50     p99   p99.9 | {:>7} "
        "{:>7} {:>7} {:>6} | {:>6}\n",
        "", "faults", "p50", "p90", "p99", "p99.9", "max", "demand", "prepage", "push", "dup",
        "ms");
}

}  // namespace

std::vector<std::string> latency_cases() {
    std::vector<std::string> names;
    names.reserve(std::size(kCases));
    for (const Case& one : kCases) names.emplace_back(one.name);
    return names;
}

absl::Status measure_latency(const LatencyOptions& options) {
    if (!options.json) print_head(options);
    nlohmann::json told = nlohmann::json::array();
    for (const Case& tried : kCases)
        if (options.only.empty() || options.only == tried.name)
            GODWIT_RETURN_IF_ERROR(measure(options, tried, told));
    if (options.json) fmt::print("{}\n", nlohmann::json{{"benchmarks", std::move(told)}}.dump(1));
    return absl::OkStatus();
}

}  // namespace godwit
