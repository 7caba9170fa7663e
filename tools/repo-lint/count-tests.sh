#!/usr/bin/env bash
# count-tests.sh LOG [SECOND]: the closing line of a test run: how many passed, failed and were skipped.
# SECOND is the log, where there is one, of a second run of what failed in the first: what passes there
# has passed, and is named.
set -euo pipefail
of() { sed -nE "s/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: (.*[^ .])[ .]+$2.*/\1/p" "$1"; }
passed=$(of "$1" ' Passed ' | wc -l)
skipped=$(of "$1" '\*\*\*Skipped' | wc -l)
# Of what ended by a signal CTest says "Subprocess aborted***Exception", without a space.
failed=$(of "$1" '[^*]*\*\*\*(Failed|Timeout|Exception|Not Run)' | wc -l)
if [ -n "${2:-}" ] && [ -e "$2" ]; then
    mapfile -t unsteady < <(of "$2" ' Passed ')
    passed=$((passed + ${#unsteady[@]}))
    failed=$((failed - ${#unsteady[@]}))
    [ ${#unsteady[@]} = 0 ] || printf 'passed only when it ran again, alone: %s\n' "${unsteady[@]}"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$passed" -gt 0 ] && [ "$failed" = 0 ]
