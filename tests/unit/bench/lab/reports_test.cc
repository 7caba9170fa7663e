// What QEMU and Godwit say of themselves, as metrics.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/lab/godwit_engine.h"
#include "bench/lab/provenance.h"
#include "bench/lab/qemu_engine.h"
#include "engine/guest/vm_file/vm_file.h"

namespace godwit {
namespace {

using ::testing::Contains;
using ::testing::Key;
using ::testing::Not;

constexpr Bytes kGiB = Bytes{1} << 30;

TEST(QemuReport, AnOldQemuTellsTheMeanFaultByItsBlockedTime) {
    const Metrics metrics = qemu_metrics(
        QemuMode::kPostcopy,
        Json::parse(
            R"({"downtime":7,"total-time":900,"ram":{"transferred":4096,"postcopy-requests":20}})"),
        Json::parse(R"({"postcopy-blocktime":40,"postcopy-vcpu-blocktime":[40]})"));
    EXPECT_EQ(metrics.at("faults"), 20);
    EXPECT_EQ(metrics.at("fault_mean_us"), 2000);
    EXPECT_EQ(metrics.at("wire_bytes"), 4096);
    EXPECT_EQ(metrics.at("reported_downtime_ms"), 7);
}

TEST(QemuReport, ANewQemuTellsItItself) {
    const Metrics metrics =
        qemu_metrics(QemuMode::kPreempt, Json::parse(R"({"ram":{"postcopy-requests":20}})"),
                     Json::parse(R"({"postcopy-blocktime":40,"postcopy-latency":560000})"));
    EXPECT_EQ(metrics.at("fault_mean_us"), 560);
}

TEST(QemuReport, APreCopyHasNoFaults) {
    const Metrics metrics =
        qemu_metrics(QemuMode::kPrecopy, Json::parse(R"({"ram":{"postcopy-requests":0}})"), Json());
    EXPECT_THAT(metrics, Not(Contains(Key("faults"))));
    EXPECT_THAT(metrics, Not(Contains(Key("fault_mean_us"))));
}

TEST(QemuReport, EachModeHasItsCapabilitiesAndLimits) {
    EXPECT_THAT(qemu_capabilities(QemuMode::kPreempt),
                ::testing::IsSupersetOf({"events", "postcopy-ram", "postcopy-preempt"}));
    EXPECT_THAT(qemu_capabilities(QemuMode::kPrecopy), Not(Contains("postcopy-ram")));
    const Json limited =
        qemu_parameters(QemuMode::kPostcopy, 1000, std::chrono::milliseconds(300), kGiB);
    EXPECT_EQ(limited["max-bandwidth"], 1000);
    EXPECT_EQ(limited["max-postcopy-bandwidth"], 1000);
    EXPECT_EQ(limited["downtime-limit"], 300);
    const Json unlimited =
        qemu_parameters(QemuMode::kMultifd, 0, std::chrono::milliseconds(300), kGiB);
    EXPECT_GT(unlimited["max-bandwidth"], int64_t{1} << 35);
    EXPECT_EQ(unlimited["multifd-channels"], 2);
}

TEST(QemuReport, CompressionIsAtItsBest) {
    const auto parameters = [](QemuMode mode) {
        return qemu_parameters(mode, 0, std::chrono::milliseconds(300), 3 * kGiB);
    };
    EXPECT_THAT(qemu_capabilities(QemuMode::kMultifdZstd), Contains("multifd"));
    EXPECT_EQ(parameters(QemuMode::kMultifdZstd)["multifd-compression"], "zstd");
    EXPECT_EQ(parameters(QemuMode::kMultifdZstd)["multifd-channels"], 2);
    EXPECT_FALSE(parameters(QemuMode::kMultifd).contains("multifd-compression"));
    EXPECT_THAT(qemu_capabilities(QemuMode::kXbzrle), Contains("xbzrle"));
    EXPECT_EQ(parameters(QemuMode::kXbzrle)["xbzrle-cache-size"], 4 * kGiB);
}

TEST(GodwitReport, IsFlattenedAndTheMainFiguresHaveTheLabsNames) {
    const Metrics metrics = godwit_metrics(
        nlohmann::json::parse(
            R"({"downtime_ms":5.5,"total_ms":90,"downtime":{"commit_ms":0.4},"rounds":[{},{}],
            "outcome":"done","started_unix_ms":1,
            "postcopy":{"faults":12,"latency_us":{"p50":50,"p99":90},"drain_ms":80}})"),
        0);
    EXPECT_EQ(metrics.at("downtime_ms"), 5.5);
    EXPECT_EQ(metrics.at("downtime.commit_ms"), 0.4);
    EXPECT_EQ(metrics.at("rounds"), 2);
    EXPECT_EQ(metrics.at("faults"), 12);
    EXPECT_EQ(metrics.at("fault_p99_us"), 90);
    EXPECT_EQ(metrics.at("drain_ms"), 80);
    EXPECT_THAT(metrics, Not(Contains(Key("outcome"))));
    EXPECT_THAT(metrics, Not(Contains(Key("started_unix_ms"))));
}

TEST(GodwitReport, IsCountedFromTheRequestAsQemusIs) {
    const auto report = nlohmann::json::parse(
        R"({"total_ms":90,"prepare_ms":30,"downtime_ms":5,"started_unix_ms":1020,
            "rounds":[{"duration_ms":10},{"duration_ms":5}]})");
    EXPECT_EQ(godwit_lead_ms(report, 1000), 20);
    const Metrics metrics = godwit_metrics(report, 20);
    EXPECT_EQ(metrics.at("total_ms"), 110);
    EXPECT_EQ(metrics.at("prepare_ms"), 50);
    EXPECT_EQ(metrics.at("reported_total_ms"), 90);
    EXPECT_EQ(metrics.at("downtime_ms"), 5);
    const auto series = godwit_series(report, 20);
    EXPECT_EQ(series["rounds"][0]["begin_ms"], 50);
    EXPECT_EQ(series["rounds"][1]["begin_ms"], 60);
}

TEST(GodwitReport, AClockThatWasSetBackMakesNothingShorter) {
    EXPECT_EQ(godwit_lead_ms(nlohmann::json::parse(R"({"started_unix_ms":990})"), 1000), 0);
    EXPECT_EQ(godwit_lead_ms(nlohmann::json(), 1000), 0);
}

TEST(GodwitReport, WhatItLacksIsAbsent) {
    const Metrics metrics = godwit_metrics(nlohmann::json::parse(R"({"downtime_ms":5})"), 20);
    EXPECT_THAT(metrics, Not(Contains(Key("faults"))));
    EXPECT_THAT(metrics, Not(Contains(Key("fault_p99_us"))));
}

TEST(GodwitVmFile, IsOneThatGodwitReads) {
    const auto spec = parse_vm_file(lab_vm_file("lab1", {.memory = Bytes{128} << 20,
                                                         .working_set = Bytes{32} << 20,
                                                         .kvm = true,
                                                         .cpu = "host,arch-capabilities=off",
                                                         .kernel = "/bin/true",
                                                         .firmware = "/bin/true"}),
                                    "/lab1.yaml");
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->memory_bytes(), Bytes{128} << 20);
    EXPECT_EQ(spec->append(), "ws=32768K rate=0 pattern=random sweep=0 seed=1");
    EXPECT_EQ(spec->accel(), v1::ACCEL_KVM);
}

TEST(GodwitVmFile, AGuestWithAServiceHasADiskAndANic) {
    const auto spec = parse_vm_file(lab_vm_file("lab1", {.memory = Bytes{128} << 20,
                                                         .kernel = "/bin/true",
                                                         .append = "quiet",
                                                         .service = true,
                                                         .initrd = "/bin/true",
                                                         .disk = "/tmp/disk",
                                                         .bridge = "lab",
                                                         .mac = "52:54:00:78:00:10"}),
                                    "/lab1.yaml");
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->append(), "quiet");
    EXPECT_EQ(spec->initrd(), "/bin/true");
    ASSERT_EQ(spec->disks_size(), 1);
    EXPECT_EQ(spec->disks(0).path(), "/tmp/disk");
    ASSERT_EQ(spec->nics_size(), 1);
    EXPECT_EQ(spec->nics(0).bridge(), "lab");
    EXPECT_EQ(spec->nics(0).mac(), "52:54:00:78:00:10");
}

TEST(Provenance, KeepsTheVersionOfQemu) {
    EXPECT_EQ(qemu_version_said("QEMU emulator version 7.2.22 (Debian 1)\nCopyright\n"),
              "7.2.22 (Debian 1)");
    EXPECT_EQ(qemu_version_said("something else\n"), "something else");
}

TEST(Provenance, NamesTheHostAndItsLoad) {
    const auto line = provenance("/nonexistent/qemu");
    EXPECT_EQ(line["qemu"], "unknown");
    for (const char* key : {"git", "kernel", "cpu", "cpus", "load", "unix_s"})
        EXPECT_TRUE(line.contains(key)) << key;
}

}  // namespace
}  // namespace godwit
