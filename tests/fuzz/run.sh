#!/usr/bin/env bash
# run.sh [TARGET…] [--for TIME]: the fuzzers of build/fuzz, one after another (./dev fuzz builds them).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

usage() {
    cat <<TEXT
./dev fuzz [TARGET…] [--for TIME]

Feeds the parsers of Godwit with mutated input, each target for TIME (default 1m; 30s, 15m, 2h), and
ends with a table; exits with 1 when an input was found that a parser does not survive, or that takes
a minute or 2 GiB. New inputs that reach new code are kept in build/fuzz/corpus for the next run, findings
in build/fuzz/findings.

  ./dev fuzz                              all targets, a minute each
  ./dev fuzz pages_body qmp --for 15m     two of them, a quarter of an hour each
  build/fuzz/bin/fuzz_qmp FILE            what happens with a finding

Targets: $(targets | tr '\n' ' ')
TEXT
}

targets() { sed -n 's/^godwit_fuzz(\([a-z_]*\).*/\1/p' tests/fuzz/CMakeLists.txt; }

seconds_of() {
    local number="${1%[smh]}"
    [[ "$number" =~ ^[1-9][0-9]{0,5}$ ]] || { echo "\"$1\" is no time; write it as 30s, 15m or 2h" >&2; exit 2; }
    case "$1" in
        *h) echo $((number * 3600)) ;;
        *m) echo $((number * 60)) ;;
        *) echo "$number" ;;
    esac
}

chosen=()
time=1m
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit ;;
        --for) time="${2:-}"; shift ;;
        --for=*) time="${1#--for=}" ;;
        -*) echo "unknown option $1; see ./dev fuzz --help" >&2; exit 2 ;;
        *)
            targets | grep -qxF -- "$1" || { echo "there is no target $1; there are: $(targets | tr '\n' ' ')" >&2; exit 2; }
            chosen+=("$1")
            ;;
    esac
    [ $# = 0 ] || shift
done
seconds=$(seconds_of "$time")
[ ${#chosen[@]} -gt 0 ] || mapfile -t chosen < <(targets)
[ "${GODWIT_FUZZ_CHECK:-}" = "" ] || exit 0  # ./dev asks before it builds

# One value of libFuzzer's closing statistics.
statistic() { sed -n "s/^stat::$2: *//p" "$1" | tail -1; }

table="target executions exec/s new-inputs result"
failed=0
for target in "${chosen[@]}"; do
    corpus=build/fuzz/corpus/$target
    findings=build/fuzz/findings/$target
    log=build/fuzz/$target.log
    mkdir -p "$corpus" "$findings"
    options=(-max_total_time="$seconds" -max_len=16384 -timeout=60 -rss_limit_mb=2048
        -print_final_stats=1 -artifact_prefix="$findings/")
    [ ! -f "tests/fuzz/$target.dict" ] || options+=(-dict="tests/fuzz/$target.dict")
    echo "$target for $time …"
    result=ok
    nice -n 10 "build/fuzz/bin/fuzz_$target" "${options[@]}" "$corpus" "tests/fuzz/corpus/$target" \
        > "$log" 2>&1 || result="FOUND(see-$log)"
    [ "$result" = ok ] || { failed=1; grep -m 3 -E 'check failed|ERROR:|runtime error|Test unit written' "$log" || tail -5 "$log"; }
    table+=$'\n'"$target $(statistic "$log" number_of_executed_units) $(statistic "$log" average_exec_per_sec)"
    table+=" $(statistic "$log" new_units_added) $result"
done
echo "$table" | column -t
exit $failed
