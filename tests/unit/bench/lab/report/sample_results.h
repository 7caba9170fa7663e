// Results as a run would have written them.
#pragma once

#include <fmt/format.h>

#include <string>

#include "bench/lab/report/results.h"

namespace godwit {

inline std::string run_line(const std::string& row, int repeat, double total_ms) {
    return fmt::format(
        R"({{"kind":"run","scenario":"dense","row":"{}","repeat":{},"ok":true,"metrics":)"
        R"({{"total_ms":{},"downtime_ms":5,"cpu_s":{},"prediction.total_ms.mid":9,)"
        R"("reported_total_ms":8}},"series":{{"pace":[[-20,9],[-10,10],[10,8],)"
        R"([20,7]],"blackout":[5,9],"stalls":[[5,4]],"latency_us":[[50,0.5],[90,0.99]],"rounds":)"
        R"([{{"begin_ms":1,"ms":9,"dirty_pages":8,"sent_pages":7,"bytes_per_s":1e9,"r":0.5}}]}}}})"
        "\n",
        row, repeat, total_ms, total_ms / 100);
}

// Godwit at 10 to 14 ms, QEMU's best at 20 to 24, one row that is not there and one that failed.
inline std::string sample_text() {
    std::string text =
        R"({"kind":"setting","git":"abc","qemu":"7.2","kernel":"6.1","cpus":2,"cpu":"</script>","seed":1})"
        "\n"
        R"({"kind":"scenario","name":"dense","about":"much","setting":{"accel":"kvm","link_bytes_per_s":125000000},)"
        R"("rows":["godwit-precopy","qemu-precopy","qemu-multifd","qemu-preempt","floor"],"targets":[)"
        R"({"metric":"total_ms","ours":"godwit-precopy","peers":["qemu-precopy","qemu-multifd"],"kind":"at_least","bound":2.5,"issue":"transport"},)"
        R"({"metric":"downtime_ms","ours":"godwit-precopy","peers":[],"kind":"at_most","bound":8},)"
        R"({"metric":"total_ms","ours":"godwit-precopy","peers":["qemu-preempt"],"kind":"at_most","bound":1}]})"
        "\n";
    text += run_line("godwit-precopy", -1, 1000);
    for (int i = 0; i < 5; ++i) {
        text += run_line("godwit-precopy", i, 10 + i);
        text += run_line("qemu-precopy", i, 30 + i);
        text += run_line("qemu-multifd", i, 20 + i);
    }
    text +=
        R"({"kind":"run","scenario":"dense","row":"qemu-preempt","repeat":-1,"ok":false,"missing":true,"error":"no such thing"})"
        "\n"
        R"({"kind":"run","scenario":"dense","row":"floor","repeat":0,"ok":false,"missing":false,"error":"it broke"})"
        "\n";
    return text;
}

inline ResultFile sample_results() { return *parse_results(sample_text(), "runs.jsonl"); }

}  // namespace godwit
