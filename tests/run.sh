#!/usr/bin/env bash
# run.sh BUILD_DIRECTORY LOG [ctest options]: runs tests (./dev test and ./dev sanitize do so), and ends
# with a line that counts them. A few that fail beside others run once more, alone, and are named: what is
# said then is in LOG too, but for "-again" before its ".log". GODWIT_TEST_JOBS of them run at a time.
set -euo pipefail
build="$1"
log="$2"
shift 2
arguments=(--test-dir "$build" --output-on-failure "$@")
again="${log%.log}-again.log"
rm -f "$log" "$again"
: "${GODWIT_TEST_JOBS:=3}" # most of a test is waiting
failed=0
if ! ctest -j"$GODWIT_TEST_JOBS" "${arguments[@]}" | tee "$log" && grep -q 'tests failed out of' "$log"; then
    failed=$(wc -l < "$build/Testing/Temporary/LastTestsFailed.log")
fi
if [ "$failed" -gt 0 ] && [ "$failed" -le 3 ]; then
    ctest "${arguments[@]}" --rerun-failed | tee "$again" || true
fi
"$(dirname "$0")/../tools/repo-lint/count-tests.sh" "$log"
