#!/usr/bin/env bash
# run.sh asan|tsan [ctest options]: the tests of build/asan or build/tsan (./dev sanitize builds them). A
# program that a test starts may end where nobody looks, so every report of a sanitizer goes to a file of its
# own, and one such file is a failure, whatever the tests say. Nothing is suppressed.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
sanitizer="$1"
shift
reports="$PWD/build/$sanitizer/reports"
rm -rf "$reports"
mkdir -p "$reports"
to_files="log_path=$reports/report"
# By a signal, so that whoever waits for the program can tell this end from others.
by_signal="abort_on_error=1"
# SIGBUS is what a RAM file that has shrunk sends; a test has it end a program.
export ASAN_OPTIONS="$to_files:$by_signal:handle_sigbus=0"
export UBSAN_OPTIONS="$to_files:$by_signal:print_stacktrace=1" LSAN_OPTIONS="$to_files:$by_signal"
# A race is told, and the program goes on. What a test starts is forked beside its threads, and executes.
export TSAN_OPTIONS="$to_files:die_after_fork=0:handle_sigbus=0"

# Simulations that are done wrong on purpose are long, and run what the others run.
chosen=(-L '^sanitized-' -E '^OneStepDoneWrong' --no-tests=error)
status=0
tests/run.sh "build/$sanitizer" "build/test-$sanitizer.log" "${chosen[@]}" "$@" || status=1

# That there are fibers is said in any case; the simulator's tell asan of each switch.
of_fibers="ASan doesn't fully support makecontext/swapcontext"
found=()
for report in "$reports"/*; do
    if [ -e "$report" ] && grep -qvF "$of_fibers" "$report"; then found+=("$report"); fi
done
[ ${#found[@]} -gt 0 ] || exit $status
for report in "${found[@]}"; do
    echo "---- $report"
    head -n 120 "$report"
done
echo "$sanitizer has something to say of ${#found[@]} programs: see $reports" >&2
exit 1
