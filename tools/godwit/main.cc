// godwit: the command line; a thin client of an agent's public API.
#include <absl/strings/str_split.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>

#include "engine/base/late_call.h"
#include "engine/base/units.h"
#include "engine/guest/vm_file/vm_file.h"
#include "engine/report/json.h"
#include "tools/godwit/fleet_command.h"
#include "tools/godwit/fleet_plan.h"
#include "tools/godwit/interrupts.h"
#include "tools/godwit/libvirt_command.h"
#include "tools/godwit/migrate_command.h"
#include "tools/godwit/migrate_options.h"
#include "tools/godwit/plan_text.h"
#include "tools/godwit/record_command.h"
#include "tools/godwit/render.h"
#include "tools/godwit/words.h"

namespace godwit {
namespace {

ExitCode print_json(const google::protobuf::Message& message) {
    std::cout << json_text(to_json(message)) << std::endl;
    return ExitCode::kDone;
}

// Prints an answer as JSON or as text.
template <typename Answer>
ExitCode print_answer(const absl::StatusOr<Answer>& answer, bool json,
                      std::string (*render)(const Answer&)) {
    if (!answer.ok()) return print_error(answer.status(), json);
    if (json) return print_json(*answer);
    std::cout << render(*answer) << std::flush;
    return ExitCode::kDone;
}

ExitCode print_done(const absl::Status& status, bool json) {
    if (!status.ok()) return print_error(status, json);
    if (json) std::cout << "{}" << std::endl;
    return ExitCode::kDone;
}

std::string started_text(const v1::VmInfo& vm) {
    return fmt::format("{} runs ({}, pid {})\n", vm.spec().name(), enum_word(vm.spec().accel()),
                       vm.pid());
}

void add_record_command(CLI::App& vm, Words& words, Action& action) {
    CLI::App* record = vm.add_subcommand(
        "record-dirty", "Record which pages the guest writes, for godwit-sim to replay");
    record->footer(
        "The VM can't be migrated meanwhile, and its guest takes a fault for each page that it\n"
        "writes in a window. Ctrl-C ends it early; so does the VM's end (exit code 6). What was\n"
        "recorded until then is a whole trace either way.\n\n"
        "Example:\n  godwit vm record-dirty web --for 60s -o web.trace\n"
        "  godwit-sim --trace web.trace --vms 100 --hosts 10 --link 10Gbit");
    record->add_option("NAME", words.name, "The VM")->required();
    record->add_option("--for", words.length, "How long, 100ms to 24 hours (1440m)")
        ->capture_default_str();
    record->add_option("--window", words.window, "Length of each dirty set's window, 10ms to 10m")
        ->capture_default_str();
    record->add_option("-o,--output", words.output, "The trace; replaced if it is there")
        ->required();
    add_tracker_option(*record, words);
    record->callback([&] {
        words.takes_signals = true;
        action = [&words](AgentClient& agent) {
            const auto request = record_request(words);
            if (!request.ok()) {
                print_error(request.status(), words.json);
                return ExitCode::kUsage;
            }
            return run_record(agent,
                              {.request = *request, .path = words.output, .json = words.json});
        };
    });
}

void add_vm_commands(CLI::App& app, Words& words, Action& action) {
    CLI::App* vm = app.add_subcommand("vm", "Start, list, show and stop VMs");
    vm->require_subcommand(1);
    vm->fallthrough();

    CLI::App* start = vm->add_subcommand("start", "Start the VM that a VM file describes");
    start->footer("Example:\n  godwit vm start web.yaml");
    start->add_option("FILE", words.file, "The VM file (YAML)")->required();
    start->callback([&] {
        action = [&words](AgentClient& agent) {
            const absl::StatusOr<v1::VmSpec> spec = read_vm_file(words.file);
            if (!spec.ok()) {
                print_error(spec.status(), words.json);
                return ExitCode::kUsage;
            }
            return print_answer(agent.start_vm(*spec), words.json, started_text);
        };
    });

    CLI::App* list = vm->add_subcommand("list", "VMs of the agent");
    list->footer("Example:\n  godwit --agent 10.0.0.1:7654 vm list");
    list->callback([&] {
        action = [&words](AgentClient& agent) {
            return print_answer(agent.list_vms(), words.json, vm_table);
        };
    });

    CLI::App* show = vm->add_subcommand("show", "All about one VM");
    show->footer("Example:\n  godwit vm show web --json | jq .pid");
    show->add_option("NAME", words.name, "The VM")->required();
    show->callback([&] {
        action = [&words](AgentClient& agent) {
            return print_answer(agent.get_vm(words.name), words.json, vm_text);
        };
    });

    CLI::App* log = vm->add_subcommand("log", "What the guest wrote to its serial port");
    log->footer("Example:\n  godwit vm log web --follow");
    log->add_option("NAME", words.name, "The VM")->required();
    log->add_flag("-f,--follow", words.follow, "Go on until the VM ends");
    log->callback([&] {
        action = [&words](AgentClient& agent) {
            std::string all;
            const absl::Status status =
                agent.read_log(words.name, words.follow, [&](const std::string& data) {
                    if (words.json && !words.follow)
                        all += data;
                    else if (words.json)
                        std::cout << nlohmann::json{{"data", data}}.dump(
                                         -1, ' ', false, nlohmann::json::error_handler_t::replace)
                                  << std::endl;
                    else
                        std::cout << data << std::flush;
                });
            if (!status.ok()) return print_error(status, words.json);
            if (words.json && !words.follow)
                std::cout << nlohmann::json{{"data", all}}.dump(
                                 -1, ' ', false, nlohmann::json::error_handler_t::replace)
                          << std::endl;
            return ExitCode::kDone;
        };
    });

    CLI::App* rate = vm->add_subcommand(
        "dirty-rate", "How many distinct pages the guest writes within windows of time");
    rate->footer("Example:\n  godwit vm dirty-rate web --windows 50ms,200ms,1s,5s");
    rate->add_option("NAME", words.name, "The VM")->required();
    rate->add_option("--windows", words.windows, "Lengths, 1ms to 10m; all begin at once")
        ->capture_default_str();
    add_tracker_option(*rate, words);
    rate->callback([&] {
        action = [&words](AgentClient& agent) {
            const auto request = dirty_rate_request(words);
            if (!request.ok()) {
                print_error(request.status(), words.json);
                return ExitCode::kUsage;
            }
            return print_answer(agent.measure_dirty_rate(*request), words.json, dirty_rate_text);
        };
    });

    add_record_command(*vm, words, action);

    CLI::App* stop = vm->add_subcommand("stop", "Power a VM off");
    stop->footer("Example:\n  godwit vm stop web --force");
    stop->add_option("NAME", words.name, "The VM")->required();
    stop->add_flag("--force", words.force, "At once, without asking the guest");
    stop->add_option("--timeout", words.timeout, "How long the guest may take")
        ->capture_default_str();
    stop->callback([&] {
        action = [&words](AgentClient& agent) {
            const auto timeout = parse_duration(words.timeout);
            if (!timeout.ok() || timeout->count() < 1'000'000) {
                print_error(annotate(timeout.ok() ? absl::InvalidArgumentError("at least 1ms")
                                                  : timeout.status(),
                                     "--timeout"),
                            words.json);
                return ExitCode::kUsage;
            }
            return print_done(agent.stop_vm(words.name, words.force, *timeout), words.json);
        };
    });
}

// What becomes of a plan: an answer, and with limits a yes or a no.
ExitCode print_plan(const absl::StatusOr<v1::Plan>& plan, bool json) {
    const ExitCode printed = print_answer(plan, json, plan_text);
    // 1 is a no: what could not be measured in time is none.
    if (!plan.ok()) return printed == ExitCode::kFailed ? ExitCode::kRefused : printed;
    return plan->chosen().empty() ? ExitCode::kFailed : ExitCode::kDone;
}

void add_plan_command(CLI::App& app, Words& words, Action& action) {
    CLI::App* plan =
        app.add_subcommand("plan", "What migrating a VM would be like; nothing is moved");
    plan->footer(
        "Watches what the guest writes, reads samples of its memory, and sends for less than a\n"
        "second over the link. Intervals are from everything at its best to everything at its "
        "worst.\n"
        "Whether the destination would take the VM is not asked.\n\n"
        "Example:\n  godwit plan web --to 10.0.0.2:7654 --downtime-limit 20ms --finish-by 60s\n"
        "  godwit plan --calibration --to 10.0.0.2:7654\n\n"
        "Exit codes: 0 yes, or no limits were given; 1 no: nothing holds the limits; 2 usage;\n"
        "3 refused, or it could not be measured.");
    plan->add_option("NAME", words.name, "The VM");
    plan->add_option("--to", words.to, "HOST:PORT of the destination's agent");
    plan->add_option("--sample", words.sample, "How long the guest is watched, 100ms to 10m")
        ->capture_default_str();
    plan->add_option("--downtime-limit", words.planned_downtime_limit,
                     "Longest pause that is to be held, fixed costs included");
    plan->add_option("--finish-by", words.finish_by, "Longest total time that is to be held: 60s");
    add_bandwidth_option(*plan, words)->capture_default_str();
    add_tracker_option(*plan, words);
    plan->add_flag("--calibration", words.calibration,
                   "Only show what was predicted of earlier migrations, and what came; with --to,\n"
                   "to that destination");
    plan->callback([&] {
        action = [&words](AgentClient& agent) {
            if (words.calibration)
                return print_answer(agent.calibration(words.to), words.json, calibration_text);
            const auto request = plan_request(words);
            if (!request.ok()) {
                print_error(request.status(), words.json);
                return ExitCode::kUsage;
            }
            return print_plan(agent.plan(*request), words.json);
        };
    });
}

void add_migration_commands(CLI::App& app, Words& words, Action& action) {
    const auto add = [&](const char* name, const char* help) {
        CLI::App* command = app.add_subcommand(name, help);
        command->footer(fmt::format("Example:\n  godwit {} web", name));
        command->add_option("MIGRATION", words.migration, "Its id, or the VM's name or UUID")
            ->required();
        return command;
    };
    add("watch", "Follow a migration from its start")->callback([&] {
        words.takes_signals = true;
        action = [&words](AgentClient& agent) {
            return follow(agent, words.migration, {.json = words.json});
        };
    });
    add("cancel", "End a migration; the guest stays at the source")->callback([&] {
        action = [&words](AgentClient& agent) {
            const absl::Status status = agent.cancel(words.migration);
            if (absl::IsFailedPrecondition(status)) {
                print_error(status, words.json);
                return ExitCode::kFailed;
            }
            return print_done(status, words.json);
        };
    });
    add("switch", "End the live rounds now: the guest resumes, its last pages follow")
        ->callback([&] {
            action = [&words](AgentClient& agent) {
                return print_done(agent.switch_to_postcopy(words.migration), words.json);
            };
        });
    add("proceed", "Let a migration that is held switch over")->callback([&] {
        action = [&words](AgentClient& agent) {
            return print_done(agent.proceed(words.migration), words.json);
        };
    });
    add("resume", "Try at once to go on with a drain that was interrupted")->callback([&] {
        action = [&words](AgentClient& agent) {
            return print_done(agent.resume(words.migration), words.json);
        };
    });
    CLI::App* resolve = add("resolve", "Say where a guest is that is in doubt");
    resolve->footer(
        "For a migration whose COMMIT the destination will never answer: the guest stands\n"
        "still at the source. Only while the destination's agent doesn't answer, and with\n"
        "--confirm. --guest-at source, with the guest running at both, ruins its disks:\n"
        "power the destination off first, or kill the VM's QEMU there and remove the state\n"
        "directory of its agent. An agent that comes back there asks this one before it lets\n"
        "the guest run, if it can reach it. --guest-at none is for a guest that is lost with\n"
        "the destination after it had run there: nobody will ask for its last pages, which\n"
        "the source lets go, as it does with a copy that stands there. `godwit watch` and\n"
        "`godwit report` then say how it ended.\n\n"
        "Example:\n  godwit resolve web --guest-at source --confirm web");
    resolve
        ->add_option("--guest-at", words.guest_at,
                     "source: it runs on there; destination: the source's copy is ended; none: it "
                     "is lost with the destination")
        ->check(CLI::IsMember({"source", "destination", "none"}))
        ->required();
    resolve->add_option("--confirm", words.confirm, "The VM's name, once more");
    resolve->callback([&] {
        action = [&words](AgentClient& agent) {
            return print_done(agent.resolve(resolve_request(words)), words.json);
        };
    });
    CLI::App* limit = add("limit", "Change the bandwidth of a migration that runs");
    limit->footer("Example:\n  godwit limit web --bandwidth 2Gbit");
    add_bandwidth_option(*limit, words)->required();
    limit->callback([&] {
        action = [&words](AgentClient& agent) {
            const absl::StatusOr<Bytes> bandwidth = parse_bandwidth(words.bandwidth);
            if (!bandwidth.ok()) {
                print_error(bandwidth.status(), words.json);
                return ExitCode::kUsage;
            }
            return print_done(agent.limit(words.migration, *bandwidth), words.json);
        };
    });
    add("report", "What happened in a migration")->callback([&] {
        action = [&words](AgentClient& agent) {
            const absl::StatusOr<v1::MigrationReport> report = agent.report(words.migration);
            if (!report.ok()) return print_error(report.status(), words.json);
            return print_report(*report, words.json);
        };
    });
    CLI::App* list = app.add_subcommand("list", "Migrations of the agent");
    list->footer("Example:\n  godwit list --json | jq '.migrations[].downtime_ms'");
    list->callback([&] {
        action = [&words](AgentClient& agent) {
            return print_answer(agent.list_migrations(), words.json, migration_table);
        };
    });
    CLI::App* host = app.add_subcommand("host", "Versions, room and trackers of the agent's host");
    host->footer("Example:\n  godwit --agent 10.0.0.2:7654 host");
    host->callback([&] {
        action = [&words](AgentClient& agent) {
            return print_answer(agent.host(), words.json, host_text);
        };
    });
}

ExitCode run(int argc, char** argv) {
    CLI::App app(
        "Godwit: moves running virtual machines between hosts.\n\n"
        "Example:\n  godwit --agent 10.0.0.1:7654 migrate web --to 10.0.0.2:7654");
    Words words;
    Action action;
    app.add_option("--agent", words.agent, "HOST:PORT of the agent to talk to")
        ->envname("GODWIT_AGENT")
        ->capture_default_str();
    app.add_flag("--json", words.json, "Print JSON");
    app.set_version_flag("--version", GODWIT_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    add_vm_commands(app, words, action);
    add_plan_command(app, words, action);
    add_migrate_command(app, words, action);
    add_migration_commands(app, words, action);
    LibvirtWords libvirt_words;
    libvirt_words.json = &words.json;
    LocalAction local_action;
    add_libvirt_commands(app, libvirt_words, local_action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::RequiredError& error) {
        // "A subcommand is required" is no help to whoever mistyped one.
        const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
        if (unknown.empty()) return app.exit(error) == 0 ? ExitCode::kDone : ExitCode::kUsage;
        std::cerr << fmt::format("godwit: \"{}\" is no command: see godwit --help\n",
                                 unknown.front());
        return ExitCode::kUsage;
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? ExitCode::kDone : ExitCode::kUsage;
    }
    if (local_action) return local_action();
    if (words.takes_signals) Interrupts::block();  // before gRPC makes its threads
    const absl::StatusOr<std::unique_ptr<AgentClient>> agent = AgentClient::connect(words.agent);
    if (!agent.ok()) {
        print_error(annotate(agent.status(), "--agent"), words.json);
        return ExitCode::kUsage;
    }
    return action(**agent);
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) {
    const int code = static_cast<int>(godwit::run(argc, argv));
    // A thread that hangs in a look at a file must not meet what exit() takes down.
    if (godwit::late_calls_that_hang() > 0) {
        std::cout.flush();
        ::_exit(code);
    }
    return code;
}
