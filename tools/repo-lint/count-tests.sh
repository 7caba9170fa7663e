#!/usr/bin/env bash
# count-tests.sh LOG: the closing line of a test run: how many passed, failed and were skipped.
set -euo pipefail
passed=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.* Passed ' "$1" || true)
skipped=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.*\*\*\*Skipped' "$1" || true)
failed=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.*\*\*\*(Failed|Timeout|Exception|Not Run)' "$1" || true)
echo "$passed passed, $failed failed, $skipped skipped"
[ "$passed" -gt 0 ] && [ "$failed" = 0 ]
