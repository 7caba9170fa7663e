// FakeAgent: the API of an agent that moves nothing, over a real connection; its answers are a
// test's script.
#pragma once

#include <grpcpp/server.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "godwit/v1/agent.grpc.pb.h"
#include "tools/godwit/agent_client.h"

namespace godwit {

// A migration's id is "m-" and its VM's name. Each is ready to switch over as soon as it is
// watched (if it is to be), and done once it was told to proceed, or cancelled once that was asked
// for.
class FakeAgent final : public v1::Agent::Service {
  public:
    // What came of one call.
    struct Call {
        std::string vm;
        int times = 0;  // the first of this VM is 1
        grpc::ServerContext& context;
    };
    using Script = std::function<grpc::Status(const Call&)>;

    FakeAgent();
    ~FakeAgent() override;

    // To be set before anybody calls; each runs on a thread of the server, without a lock. An error
    // has no consequence for the migration.
    Script on_watch = answers_ok;
    Script on_proceed = answers_ok;
    Script on_cancel = answers_ok;
    Script on_limit = answers_ok;
    Script on_measure = answers_ok;
    std::function<bool(const std::string& vm)> is_ready = [](const std::string&) { return true; };

    // An agent that hangs: returns when the caller has given up. A caller that never does fails the
    // test.
    grpc::Status hang(const Call& call);

    std::unique_ptr<AgentClient> client();
    // How often that was called for the VM.
    int proceeds(const std::string& vm) { return calls("proceed", vm); }
    int cancels(const std::string& vm) { return calls("cancel", vm); }
    int limits(const std::string& vm) { return calls("limit", vm); }
    int migrations(const std::string& vm) { return calls("migrate", vm); }
    void add_vm(const std::string& name, const std::string& uuid);
    // Its migration ends well, whatever it was told.
    void finish(const std::string& vm) { note("go on", vm); }

    grpc::Status ListVms(grpc::ServerContext*, const v1::ListVmsRequest*,
                         v1::ListVmsResponse* response) override;
    grpc::Status MeasureDirtyRate(grpc::ServerContext* context,
                                  const v1::MeasureDirtyRateRequest* request,
                                  v1::DirtyRate*) override;
    grpc::Status Migrate(grpc::ServerContext*, const v1::MigrateRequest* request,
                         v1::MigrateResponse* response) override;
    grpc::Status Watch(grpc::ServerContext* context, const v1::WatchRequest* request,
                       grpc::ServerWriter<v1::MigrationEvent>* writer) override;
    grpc::Status Proceed(grpc::ServerContext* context, const v1::ProceedRequest* request,
                         v1::ProceedResponse*) override;
    grpc::Status Cancel(grpc::ServerContext* context, const v1::CancelRequest* request,
                        v1::CancelResponse*) override;
    grpc::Status Limit(grpc::ServerContext* context, const v1::LimitRequest* request,
                       v1::LimitResponse*) override;

  private:
    static grpc::Status answers_ok(const Call&) { return grpc::Status::OK; }
    grpc::Status run(const char* what, const Script& script, const std::string& vm,
                     grpc::ServerContext& context);
    // Until `done`, which is asked with mutex_ held, or the caller has gone. False: neither came.
    bool await(const grpc::ServerContext& context, const std::function<bool()>& done);
    int note(const std::string& what, const std::string& vm);  // returns how often by now
    int calls(const std::string& what, const std::string& vm);

    std::mutex mutex_;
    std::condition_variable changed_;
    // Guarded by mutex_:
    std::map<std::pair<std::string, std::string>, int> calls_;  // by what, and VM
    v1::ListVmsResponse vms_;

    int port_ = 0;
    std::unique_ptr<grpc::Server> server_;
};

}  // namespace godwit
