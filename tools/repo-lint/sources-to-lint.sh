#!/usr/bin/env bash
# sources-to-lint.sh [--all]: the sources that clang-tidy looks at, one a line. Without --all only what
# changed since the branch left main, or, on main itself, since the commit before (the merge's first
# parent): a changed source, and for a changed header one source that sees it. Everything where git
# knows no such commit, or where the rules themselves changed.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

all() { git ls-files '*.cc' ':!bench/guest/kernel' ':!tests'; }

base() {
    local main
    for main in origin/main main; do
        local fork
        fork=$(git merge-base HEAD "$main" 2>/dev/null) || continue
        [ "$fork" != "$(git rev-parse HEAD)" ] || break
        echo "$fork"
        return
    done
    git rev-parse --verify --quiet HEAD^
}

if [ "${1:-}" = --all ] || ! since=$(base); then
    all
    exit
fi
changed=$(git diff --name-only --diff-filter=d "$since"; git ls-files --others --exclude-standard)
if grep -qxE '\.clang-tidy|tools/repo-lint/sources-to-lint\.sh' <<<"$changed"; then
    all
    exit
fi

# One source that includes the header, of the same room if there is one.
source_that_sees() {
    local own="${1%.h}.cc"
    if [ -f "$own" ]; then echo "$own"; return; fi
    all | xargs grep -lF "#include \"$1\"" | sort | awk -v room="$(dirname "$1")/" \
        'index($0, room) == 1 { found = $0; exit } { first = first == "" ? $0 : first }
         END { print found == "" ? first : found }'
}
{
    grep '\.cc$' <<<"$changed" || true
    grep '\.h$' <<<"$changed" | while read -r header; do source_that_sees "$header"; done || true
} | sort -u | grep -Fxf <(all) || true
