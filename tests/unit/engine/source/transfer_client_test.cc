// A source that is asked while its agent is being restarted.
#include "engine/source/transfer_client.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <future>

#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

// A port of this host on which nobody listens, and which nobody is given before it is let go.
class KeptPort {
  public:
    KeptPort() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const int on = 1;
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t size = sizeof address;
        EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
        EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
        port_ = ntohs(address.sin_port);
    }
    [[nodiscard]] HostPort address() const { return {"127.0.0.1", port_}; }

  private:
    UniqueFd socket_;
    uint16_t port_ = 0;
};

class HasGivenBack final : public v1::Transfer::Service {
  public:
    grpc::Status GivenBack(grpc::ServerContext*, const v1::GivenBackRequest* request,
                           v1::GivenBackResponse* response) override {
        response->set_given_back(request->migration_id() == "m");
        return grpc::Status::OK;
    }
};

TEST(TransferClient, WaitsForASourceThatIsBeingRestarted) {
    const KeptPort port;
    auto answer = std::async(std::launch::async, [&] {
        return TransferClient(port.address()).given_back("m", std::chrono::seconds(50));
    });
    // One that does not wait has its answer long before this: nobody listens.
    ASSERT_EQ(answer.wait_for(std::chrono::milliseconds(500)), std::future_status::timeout);
    HasGivenBack service;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(port.address().to_string(), grpc::InsecureServerCredentials());
    builder.RegisterService(&service);
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    ASSERT_NE(server, nullptr);
    const absl::StatusOr<bool> given_back = answer.get();
    ASSERT_TRUE(given_back.ok()) << given_back.status();
    EXPECT_TRUE(*given_back);
    server->Shutdown();
}

TEST(TransferClient, GivesUpOnASourceThatDoesNotCome) {
    const KeptPort port;
    EXPECT_FALSE(
        TransferClient(port.address()).given_back("m", std::chrono::milliseconds(50)).ok());
}

}  // namespace
}  // namespace godwit
