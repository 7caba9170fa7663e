#!/usr/bin/env bash
# Rules of the repository that no compiler checks; run by ./dev test.
set -euo pipefail
cd "$(git rev-parse --show-toplevel 2>/dev/null || pwd)"
failed=0
complain() { echo "repo-lint: $1" >&2; failed=1; }

code() { git ls-files '*.cc' '*.h' '*.S' '*.proto' '*.sh' 'dev' '*CMakeLists.txt' '*.cmake'; }
long=$(code | xargs wc -l | awk '$2 != "total" && $1 > 500 {print $2 " has " $1 " lines"}')
[ -z "$long" ] || complain "files over 500 lines: $long"
marks=$(git grep -nwE 'TODO|FIXME|XXX' -- '*.cc' '*.h' '*.proto' | grep -vE 'TODO\(#[0-9]+\)' || true)
[ -z "$marks" ] || complain "unfinished marks without an issue number: $marks"
rooms=$(git ls-files | grep -iE '(^|/)(utils?|common|helpers?|misc)(/|\.)' || true)
[ -z "$rooms" ] || complain "rooms without a concept: $rooms"
for list in $(git ls-files '*CMakeLists.txt' | grep -E '^(engine|transport|dirty-tracking)/[^/]+/'); do
    room=$(dirname "$list")
    grep -qF "\`$room\`" ARCHITECTURE.md || complain "ARCHITECTURE.md has no line for $room"
done
exit $failed
