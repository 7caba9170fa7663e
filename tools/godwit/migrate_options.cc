#include "tools/godwit/migrate_options.h"

#include "tools/godwit/fleet_command.h"
#include "tools/godwit/fleet_plan.h"
#include "tools/godwit/migrate_command.h"

namespace godwit {
namespace {

void add_fleet_options(CLI::App& migrate, Words& words) {
    migrate.add_flag("--all", words.all, "Every VM of the agent that nothing else holds");
    migrate.add_option("--vms", words.vms, "These VMs, by name or UUID: web,db,mail");
    migrate
        .add_option(
            "--schedule", words.schedule,
            "Of several VMs. serial: one after the other; parallel: all at once; auto: looks\n"
            "for a second what they write, then takes the order and the number at a time\n"
            "that are over soonest with the downtime limits kept")
        ->check(CLI::IsMember({"serial", "parallel", "auto"}))
        ->capture_default_str();
    migrate.add_option("--parallel", words.parallel, "At most this many at a time")
        ->check(CLI::Range(1U, kMostAtATime));
    migrate.add_flag("--gang", words.gang,
                     "VMs that belong together: they wait until all are ready, then switch over\n"
                     "at one moment; if one can't come, or --all finds one in use, all stay");
    migrate.add_option("--hold", words.hold,
                       "Ready to switch over, wait so long for `godwit proceed`, then give up: 5m\n"
                       "(at most 60m; with --gang, for the others: 10m)");
}

}  // namespace

void add_tracker_option(CLI::App& command, Words& words) {
    command.add_option("--tracker", words.tracker, "How written pages are found")
        ->check(CLI::IsMember({"auto", "uffd-wp", "kvm-dirty-log"}))
        ->capture_default_str();
}

CLI::Option* add_bandwidth_option(CLI::App& command, Words& words) {
    return command.add_option(
        "--bandwidth", words.bandwidth,
        "Limit of all streams (and VMs) together, as 2Gbit or 100MiB/s; a number alone\n"
        "is in MiB/s, as virsh has it");
}

void add_migrate_command(CLI::App& app, Words& words, Action& action) {
    CLI::App* migrate = app.add_subcommand("migrate", "Move running VMs to another agent");
    migrate->footer(
        "Example:\n  godwit migrate web --to 10.0.0.2:7654 --verify\n"
        "  godwit migrate --all --to 10.0.0.2:7654 --bandwidth 5Gbit\n"
        "  godwit migrate --vms web,db,mail --to 10.0.0.2:7654 --schedule parallel --parallel 2\n"
        "  godwit migrate --vms app,db --to 10.0.0.2:7654 --gang\n\n"
        "Exit codes: 0 done, 1 failed and the guest runs at the source, 2 usage, 3 refused before\n"
        "anything was touched, 4 needs an operator, 5 cancelled, 6 the guest died.\n"
        "Ctrl-C cancels before COMMIT and detaches after it.\n"
        "Of several VMs: 0 all are done; else 4, 6 or 5 if that is so of any; 2 if no request was\n"
        "one; 3 if all were refused; else 1. One that fails does not stop the rest; Ctrl-C "
        "cancels\n"
        "all that have not committed.");
    migrate->add_option("NAME", words.name, "The VM, by name or a domain's UUID");
    add_fleet_options(*migrate, words);
    migrate->add_option("--to", words.to, "HOST:PORT of the destination's agent")->required();
    migrate->add_option("--id", words.id,
                        "Id for this migration; the same id twice is one migration");
    migrate
        ->add_option(
            "--strategy", words.strategy,
            "hybrid: live rounds while they help, the rest after the resume; precopy: all\n"
            "pages before it; postcopy: all after it; stop-and-copy: no live rounds at all")
        ->check(CLI::IsMember({"hybrid", "precopy", "postcopy", "stop-and-copy"}))
        ->capture_default_str();
    add_tracker_option(*migrate, words);
    migrate
        ->add_option("--downtime-limit", words.downtime_limit,
                     "Longest pause, fixed costs included")
        ->capture_default_str();
    migrate->add_option("--threshold", words.threshold,
                        "Also switch when this little is left: 4MiB");
    migrate->add_option("--max-rounds", words.max_rounds, "Most live rounds")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    migrate->add_option("--max-data", words.max_data,
                        "Most data, as a multiple of the touched RAM (default: 3x; with\n"
                        "--on-no-converge throttle, which takes its time, 10x)");
    migrate
        ->add_option(
            "--on-no-converge", words.on_no_converge,
            "What to do when the rounds don't converge; default: postcopy for hybrid, fail\n"
            "for precopy; throttle holds the vCPUs back, more and more (needs KVM and\n"
            "the resident)")
        ->check(CLI::IsMember({"default", "postcopy", "stop-and-copy", "throttle", "fail"}))
        ->capture_default_str();
    migrate->add_option("--finish-by", words.finish_by,
                        "Resume before the last pages are there, so that all is over by then: 30s\n"
                        "(of several VMs each has so long from its own beginning)");
    add_bandwidth_option(*migrate, words)->capture_default_str();
    migrate
        ->add_option("--streams", words.streams,
                     "TCP streams for pages, 1 to 16; auto: 2, and for more than 1 GiB as many\n"
                     "as make the first round faster")
        ->capture_default_str();
    migrate->add_option("--congestion-control", words.congestion_control,
                        "Of the TCP streams, as bbr: one that the source's kernel has");
    migrate->add_option("--bind", words.bind,
                        "Addresses of the source that the streams come from in turn, as\n"
                        "10.0.0.1,10.1.0.1: to use several links at once");
    migrate
        ->add_option("--compress", words.compress,
                     "auto: lz4 or zstd where link and CPU make it the faster way")
        ->check(CLI::IsMember({"auto", "off", "lz4", "zstd"}))
        ->capture_default_str();
    migrate
        ->add_option("--delta-cache", words.delta_cache,
                     "Memory for pages as last sent, of which only what changed is sent; 0: none")
        ->capture_default_str();
    migrate->add_flag("--persistent", words.persistent,
                      "libvirt: define the domain at the destination, as virsh has it");
    migrate->add_flag("--undefine-source", words.undefine_source,
                      "libvirt: undefine the domain here once it is there, as virsh has it");
    migrate
        ->add_option(
            "--fallback", words.fallback,
            "libvirt: what becomes of a domain that Godwit can't move, as for private RAM;\n"
            "native: libvirt's own migration moves it")
        ->check(CLI::IsMember({"none", "native"}))
        ->capture_default_str();
    migrate->add_option("--desturi", words.native_destination,
                        "Of --fallback native, as virsh has it: the other libvirt, as this one\n"
                        "reaches it (default: qemu+ssh://HOST/system)");
    migrate->add_option("--migrateuri", words.native_data,
                        "Of --fallback native, as virsh has it: tcp://HOST");
    migrate->add_flag("--no-page-hashes", words.no_page_hashes,
                      "Send what was written, changed or not: spares the source 16 B a page");
    // virsh's words, where they mean the same.
    migrate->add_flag("--live", words.live, "As virsh has it; Godwit moves running VMs anyway");
    migrate->add_flag(
        "--postcopy", words.postcopy,
        "As virsh has it: the guest may resume before its last pages are there, which is\n"
        "--strategy hybrid");
    migrate
        ->add_option("--timeout", words.migrate_timeout,
                     "As virsh has it with --timeout-postcopy, in seconds: --finish-by")
        ->check(CLI::PositiveNumber)
        ->excludes("--finish-by");
    migrate->add_flag("--unsafe", words.unsafe,
                      "As virsh has it: also where a disk is surely another one at the other host");
    migrate->add_flag("--verify", words.verify, "Compare all RAM before the source lets go of it");
    migrate->add_flag("--detach", words.detach, "Print the migration's id and return at once");
    migrate->callback([&] {
        words.takes_signals = true;
        action = [&words](AgentClient& agent) {
            const absl::StatusOr<v1::MigrateRequest> request = migrate_request(words);
            if (!request.ok()) {
                print_error(request.status(), words.json);
                return ExitCode::kUsage;
            }
            if (!is_fleet(words)) return run_migrate(agent, *request, words.detach, words.json);
            const auto fleet = fleet_options(words, *request);
            if (fleet.ok()) return run_fleet(agent, *fleet);
            print_error(fleet.status(), words.json);
            return ExitCode::kUsage;
        };
    });
}

}  // namespace godwit
