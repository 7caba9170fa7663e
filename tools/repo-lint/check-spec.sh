#!/usr/bin/env bash
# Whether every row of SPEC.md names a test of this build, or a scenario of the lab, that there is.
# Usage: check-spec.sh BUILD_DIR [SPEC.md]
set -euo pipefail
here="$(dirname "$(readlink -f "$0")")/../.."
build="$1"
spec="${2:-$here/SPEC.md}"
known="$(mktemp)"
trap 'rm -f "$known"' EXIT
# "Test #7: Prefix/Suite.Name/Parameter  # GetParam() = …" becomes "Suite.Name".
ctest --test-dir "$build" -N |
    sed -nE 's/^ *Test +#[0-9]+: ([^./]+\/)?([^./]+\.[^/ ]+).*/\2/p' > "$known"
sed -nE 's/^name: *(.*)/lab:\1/p' "$here"/bench/scenarios/*.yaml >> "$known"
failed=0
rows=0
while IFS= read -r row; do
    rows=$((rows + 1))
    names="$(awk -F'|' '{print $3}' <<< "$row" | grep -oE '`[^`]+`' | tr -d '`' || true)"
    if [ -z "$names" ]; then
        echo "SPEC.md: nothing holds us to: $row" >&2
        failed=1
    fi
    for name in $names; do
        grep -qxF -- "$name" "$known" && continue
        echo "SPEC.md: there is no $name" >&2
        failed=1
    done
done < <(grep -E '^\|' "$spec" | grep -vE '^\| promise \||^\|---')
[ "$rows" -gt 0 ] || { echo "SPEC.md: no rows" >&2; exit 1; }
echo "SPEC.md: $rows promises"
exit $failed
