#!/usr/bin/env bash
# count-tests.sh LOG…: the closing line of test runs: how many passed, failed and were skipped.
# Beside NAME.log there may be NAME-again.log, of a second run of what failed in the first: what passes
# there has passed, and is named. A LOG that is not there is a failure.
set -euo pipefail
of() { sed -nE "s/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: (.*[^ .])[ .]+$2.*/\1/p" "$1"; }
passed=0 failed=0 skipped=0 all_there=1
for log in "$@"; do
    [ -e "$log" ] || { echo "there is no $log" && all_there=0 && continue; }
    passed=$((passed + $(of "$log" ' Passed ' | wc -l)))
    skipped=$((skipped + $(of "$log" '\*\*\*Skipped' | wc -l)))
    # Of what ended by a signal CTest says "Subprocess aborted***Exception", without a space.
    failed=$((failed + $(of "$log" '[^*]*\*\*\*(Failed|Timeout|Exception|Not Run)' | wc -l)))
    second="${log%.log}-again.log"
    [ -e "$second" ] || continue
    mapfile -t unsteady < <(of "$second" ' Passed ')
    passed=$((passed + ${#unsteady[@]}))
    failed=$((failed - ${#unsteady[@]}))
    [ ${#unsteady[@]} = 0 ] || printf 'passed only when it ran again, alone: %s\n' "${unsteady[@]}"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$passed" -gt 0 ] && [ "$failed" = 0 ] && [ $all_there = 1 ]
