#!/usr/bin/env bash
# Builds the programs of a git revision in a worktree of its own, and prints their directory; what
# was built once is taken as it is. usage: build-revision.sh REVISION
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
commit=$(git -C "$root" rev-parse --verify --quiet --short=12 "$1^{commit}") || {
    echo "$1 is no result file and no git revision" >&2
    exit 1
}
place="$root/build/compare/$commit"
if [ ! -f "$place/done" ]; then
    git -C "$root" worktree prune
    rm -rf "$place"
    mkdir -p "$place"
    git -C "$root" worktree add --force --detach "$place/tree" "$commit" >&2
    cmake -S "$place/tree" -B "$place/build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -g1" -DGODWIT_BUILD_TESTS=OFF \
        -DGODWIT_BUILD_BENCH=OFF >&2
    cmake --build "$place/build" --target godwit godwitd godwit-guard godwit_resident_preload >&2
    git -C "$root" worktree remove --force "$place/tree"
    touch "$place/done"
fi
echo "$place/build/bin"
