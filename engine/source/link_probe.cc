#include "engine/source/link_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/base/hash.h"
#include "engine/base/wait.h"
#include "godwit/v1/transfer.grpc.pb.h"
#include "transport/control/error_detail.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/handshake.h"
#include "transport/stream/page_sender.h"
#include "transport/stream/tcp_channel.h"

namespace godwit {
namespace {

constexpr Duration kReachLimit = std::chrono::seconds(3);
constexpr Duration kOpenLimit = std::chrono::seconds(5);
constexpr Duration kWholeLimit = std::chrono::seconds(10);
// Long against a round trip and the limiter's granularity, and at most so much of the link's time.
constexpr Duration kBurst = std::chrono::milliseconds(80);
constexpr Bytes kMostBurstBytes = Bytes{256} << 20;  // of a stream
constexpr int kPings = 5;
constexpr int kSingleBursts = 2;
constexpr int kWideBursts = 5;
constexpr Duration kAskForEnd = std::chrono::milliseconds(100);

std::string random_probe_id() {
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    return fmt::format("probe-{:x}", static_cast<uint64_t>(now));
}

// Pages that are all alike: what is in them makes no difference to a stream that packs nothing.
struct Content {
    std::vector<std::byte> bytes = std::vector<std::byte>(kChunkBytes, std::byte{0x5a});
    std::vector<Hash128> hashes = std::vector<Hash128>(
        kPagesPerChunk, hash_bytes(std::span<const std::byte>(bytes).first(kPageBytes)));
};

// One stream of a probe.
class ProbeStream {
  public:
    static absl::StatusOr<std::unique_ptr<ProbeStream>> open(const HostPort& destination,
                                                             const v1::ProbeEvent& where,
                                                             const FrameRoute& route,
                                                             RateLimiter& limiter,
                                                             const TcpOptions& tcp) {
        SessionToken token{};
        if (where.session_token().size() != token.size() || where.data_port() == 0 ||
            where.data_port() > UINT16_MAX)
            return absl::InvalidArgumentError("The destination's answer to a probe makes no sense");
        std::memcpy(token.data(), where.session_token().data(), token.size());
        const MonotonicTime deadline = Clock::system().now() + kOpenLimit;
        GODWIT_ASSIGN_OR_RETURN(
            auto channel, connect_tcp(destination.host, static_cast<uint16_t>(where.data_port()),
                                      deadline, -1, tcp));
        GODWIT_RETURN_IF_ERROR(client_hello(*channel, route, token, deadline));
        GODWIT_RETURN_IF_ERROR(channel->prepare_for_bulk());
        std::unique_ptr<ProbeStream> stream(new ProbeStream(std::move(channel), route));
        GODWIT_ASSIGN_OR_RETURN(PageSender sender,
                                PageSender::create(stream->writer_, {.limiter = &limiter}));
        stream->sender_.emplace(std::move(sender));
        return stream;
    }

    // Frames for a while, then a marker; returns when the destination has had it all. How many
    // bytes that were.
    absl::StatusOr<Bytes> burst(uint32_t round, const Content& content, const RateLimiter& limiter,
                                const std::stop_token& stop) {
        const MonotonicTime end = Clock::system().now() + kBurst;
        const Bytes before = channel_->sent_bytes();
        while (Clock::system().now() < end && channel_->sent_bytes() - before < kMostBurstBytes) {
            const uint64_t pages =
                std::clamp<uint64_t>(limiter.frame_bytes() / kPageBytes, 1, kPagesPerChunk);
            const std::span<std::byte> area = sender_->gather();
            if (gathered_++ < 3) std::memcpy(area.data(), content.bytes.data(), area.size());
            PageSender::Chunk chunk{.hashes = std::span(content.hashes).first(pages)};
            for (uint64_t page = 0; page < pages; ++page)
                chunk.present[page / 64] |= uint64_t{1} << (page % 64);
            GODWIT_RETURN_IF_ERROR(sender_->send(chunk, stop));
        }
        GODWIT_RETURN_IF_ERROR(sender_->flush());
        GODWIT_RETURN_IF_ERROR(ping(round));
        return channel_->sent_bytes() - before;
    }

    absl::Status ping(uint32_t round) {
        GODWIT_RETURN_IF_ERROR(
            writer_.send(FrameKind::kMarker, MarkerBody{.round = round}.encode()));
        GODWIT_ASSIGN_OR_RETURN(const Frame answer, reader_.next());
        if (answer.kind() != FrameKind::kMarkerAck)
            return absl::InvalidArgumentError("The destination answers a probe with another frame");
        GODWIT_ASSIGN_OR_RETURN(const MarkerAckBody ack, MarkerAckBody::decode(answer.body));
        if (ack.round == round) return absl::OkStatus();
        return absl::InvalidArgumentError("The destination confirms another part of the probe");
    }

    void shutdown() { channel_->shutdown(); }

  private:
    ProbeStream(std::unique_ptr<TcpChannel> channel, const FrameRoute& route)
        : channel_(std::move(channel)), writer_(*channel_, route), reader_(*channel_, route) {}

    std::unique_ptr<TcpChannel> channel_;
    FrameWriter writer_;
    FrameReader reader_;
    std::optional<PageSender> sender_;
    uint32_t gathered_ = 0;
};

class LinkProber {
  public:
    LinkProber(const HostPort& destination, const LinkProbeOptions& options)
        : destination_(destination),
          options_(options),
          limiter_(options.bandwidth_bytes_per_s),
          deadline_(Clock::system().now() + kWholeLimit) {}

    absl::StatusOr<LinkProbe> run() {
        const auto channel = open_agent_channel(destination_);
        GODWIT_RETURN_IF_ERROR(await_agent(*channel, destination_, kReachLimit));
        const auto stub = v1::Transfer::NewStub(channel);
        grpc::ClientContext context;
        context.set_deadline(
            std::chrono::system_clock::now() +
            std::chrono::duration_cast<std::chrono::milliseconds>(2 * kWholeLimit));
        v1::ProbeRequest request;
        request.set_protocol_version(kProtocolVersion);
        request.set_probe_id(random_probe_id());
        request.set_streams(kProbeStreams);
        const auto events = stub->Probe(&context, request);
        v1::ProbeEvent where;
        absl::Status status;
        if (events->Read(&where)) {
            status = measure(request.probe_id(), where);
            streams_.clear();  // the destination sees their end
        }
        v1::ProbeEvent totals;
        const bool told = status.ok() && events->Read(&totals);
        if (!told) context.TryCancel();
        const grpc::Status finished = events->Finish();
        GODWIT_RETURN_IF_ERROR(status);
        if (!told) return explain(finished);
        probe_.destination_cpus = std::max(where.cpus(), 1U);
        if (sent_bytes_ > 0)
            probe_.cpu_s_per_wire_byte =
                (to_seconds(cpu_time_) + static_cast<double>(totals.cpu_time_us()) / 1e6) /
                static_cast<double>(sent_bytes_);
        return probe_;
    }

  private:
    [[nodiscard]] absl::Status explain(const grpc::Status& status) const {
        if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED)
            return absl::FailedPreconditionError(fmt::format(
                "{} answers, but its agent can't be probed: upgrade it", destination_.to_string()));
        if (status.ok())
            return absl::UnavailableError(
                fmt::format("The destination {} ended the probe", destination_.to_string()));
        return annotate(from_grpc(status),
                        fmt::format("The destination {}", destination_.to_string()));
    }

    absl::Status measure(const std::string& probe_id, const v1::ProbeEvent& where) {
        for (uint16_t i = 0; i < kProbeStreams; ++i) {
            const FrameRoute route{.migration_id = frame_migration_id(probe_id), .stream = i};
            GODWIT_ASSIGN_OR_RETURN(
                auto stream, ProbeStream::open(destination_, where, route, limiter_, options_.tcp));
            streams_.push_back(std::move(stream));
        }
        probe_.streams = kProbeStreams;
        GODWIT_RETURN_IF_ERROR(measure_round_trip());
        // The first burst of each kind finds closed TCP windows.
        GODWIT_RETURN_IF_ERROR(burst(1).status());
        for (int i = 0; i < kSingleBursts; ++i) {
            GODWIT_ASSIGN_OR_RETURN(const double rate, burst(1));
            probe_.stream_rate = std::max(probe_.stream_rate, rate);
        }
        GODWIT_RETURN_IF_ERROR(burst(kProbeStreams).status());
        std::vector<double> rates;
        for (int i = 0; i < kWideBursts; ++i) {
            GODWIT_ASSIGN_OR_RETURN(const double rate, burst(kProbeStreams));
            rates.push_back(rate);
        }
        std::sort(rates.begin(), rates.end());
        probe_.rate = {.low = rates.front(), .mid = rates[rates.size() / 2], .high = rates.back()};
        return absl::OkStatus();
    }

    absl::Status measure_round_trip() {
        Duration shortest = kWholeLimit;
        const absl::Status status = in_time([&](const std::stop_token&) {
            for (int i = 0; i < kPings; ++i) {
                const MonotonicTime began = Clock::system().now();
                GODWIT_RETURN_IF_ERROR(streams_.front()->ping(round_++));
                shortest = std::min<Duration>(shortest, Clock::system().now() - began);
            }
            return absl::OkStatus();
        });
        probe_.round_trip_s = to_seconds(shortest);
        return status;
    }

    // All of `count` streams at once; bytes per second.
    absl::StatusOr<double> burst(size_t count) {
        const uint32_t round = round_++;
        std::vector<absl::StatusOr<Bytes>> sent(count, Bytes{0});
        std::vector<Duration> cpu_times(count);
        const MonotonicTime began = Clock::system().now();
        const absl::Status status = in_time([&](const std::stop_token& stop) {
            std::vector<std::jthread> threads;
            for (size_t i = 0; i < count; ++i)
                threads.emplace_back([&, i] {
                    set_thread_name("probe-send");
                    options_.placement.apply();
                    sent[i] = streams_[i]->burst(round, content_, limiter_, stop);
                    cpu_times[i] = thread_cpu_time();
                });
            threads.clear();
            for (const auto& bytes : sent) GODWIT_RETURN_IF_ERROR(bytes.status());
            return absl::OkStatus();
        });
        GODWIT_RETURN_IF_ERROR(status);
        const double seconds = std::max(to_seconds(Clock::system().now() - began), 1e-6);
        Bytes total = 0;
        for (size_t i = 0; i < count; ++i) {
            total += *sent[i];
            cpu_time_ += cpu_times[i];
        }
        sent_bytes_ += total;
        return static_cast<double>(total) / seconds;
    }

    // Does something that may block, and ends it by the deadline or when nobody wants it any more.
    absl::Status in_time(const std::function<absl::Status(const std::stop_token&)>& work) {
        std::mutex mutex;
        std::condition_variable over;
        std::optional<absl::Status> result;
        std::stop_source stop;
        const std::jthread worker([&] {
            absl::Status status = work(stop.get_token());
            const std::lock_guard lock(mutex);
            result = std::move(status);
            over.notify_all();
        });
        std::unique_lock lock(mutex);
        while (!over.wait_for(lock, kAskForEnd, [&] { return result.has_value(); })) {
            const bool cancelled = options_.cancelled && options_.cancelled();
            if (!cancelled && Clock::system().now() < deadline_) continue;
            stop.request_stop();
            for (const auto& stream : streams_) stream->shutdown();
            over.wait(lock, [&] { return result.has_value(); });
            if (cancelled) return absl::CancelledError("cancelled");
            return absl::DeadlineExceededError("the link is too slow to be measured");
        }
        return *result;
    }

    const HostPort& destination_;
    const LinkProbeOptions& options_;
    RateLimiter limiter_;
    const MonotonicTime deadline_;
    const Content content_;
    std::vector<std::unique_ptr<ProbeStream>> streams_;
    uint32_t round_ = 0;
    Bytes sent_bytes_ = 0;
    Duration cpu_time_{};
    LinkProbe probe_;
};

}  // namespace

absl::StatusOr<LinkProbe> probe_link(const HostPort& destination, const LinkProbeOptions& options) {
    return LinkProber(destination, options).run();
}

}  // namespace godwit
