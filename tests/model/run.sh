#!/usr/bin/env bash
# run.sh FOLDER EXPECTED [-D…]: one exhaustive search of the model, made and run in FOLDER.
#
# EXPECTED is what the search must say: `holds` (no check can fail, nobody is stuck), `ends` (no run
# goes on for ever), or the name of the check that must fail ("a|b": either). A search that was not
# completed says nothing, and fails. Skips (77) without spin.
set -euo pipefail
folder="$1" expected="$2"
shift 2
definitions=("$@")
model="$(dirname "$(readlink -f "$0")")/handover.pml"
phases="${MODEL_PHASES:-$(dirname "$model")/../../build/release/tests/model/phases.pml}"
memory_limit_mb=${MODEL_MEMORY_MB:-2000}
longest_run=${MODEL_LONGEST_RUN:-100000} # steps; the longest of the model has a few hundred

command -v spin >/dev/null || { echo "SKIPPED: spin is not installed" && exit 77; }
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"

cp "$phases" . 2>/dev/null || { echo "there is no $phases: build model_phases" && exit 2; }
definitions+=("-E-I.")
# `provided` clauses, by which a death is one step, exclude partial order reduction.
spin -a "${definitions[@]}" "$model"
options=(-DCOLLAPSE -DNOREDUCE -DMEMLIM="$memory_limit_mb")
case "$expected" in
    holds) options+=(-O2 -DSAFETY) ;;
    ends) options+=(-O2 -DNP) ;; # no state is marked as progress: every cycle is an error
    *) options+=(-O0 -DSAFETY) ;; # found soon: compiling takes longer than searching
esac
${CC:-cc} -w "${options[@]}" -o pan pan.c
cycles=()
[ "$expected" != ends ] || cycles=(-l)
./pan -m"$longest_run" "${cycles[@]}" | tee log | grep -E '^pan:|^State-vector|states, stored' || true

# A counterexample, shortly: what is in brackets is what was done.
show() {
    [ -f handover.pml.trail ] || return 0
    echo "The counterexample (spin -k $folder/handover.pml.trail -p -g ${definitions[*]} $model):"
    spin -k handover.pml.trail -p "${definitions[@]}" "$model" |
        sed -nE 's/^ *([0-9]+):.*\((\w+):[0-9]+\).*\/(\w+\.pml:[0-9]+) .*\[(.*)\]$/\1 \2 \3 \4/p' |
        grep -vE ' :init: | (\(1\)|else|\.\(goto\)|goto .*|break)$|(checks\.pml|empty\(|nfull\()'
}
fail() {
    echo "FAILED: expected \"$expected\": $1"
    show
    exit 1
}

failed="$(sed -nE 's/^pan:1: assertion violated +!\((.*)\) .*$/\1/p' log)"
case "$expected" in
    holds | ends)
        ! grep -qE '^pan:1:' log || fail "found: $(grep -E '^pan:1:' log)"
        ! grep -qE 'Search not completed|search depth too small|MEMLIM|out of memory' log ||
            fail "the search was not completed"
        grep -qE 'errors: 0$' log || fail "the search did not say how it ended"
        ;;
    *)
        [[ -n "$failed" && "|$expected|" = *"|$failed|"* ]] ||
            fail "found: $(grep -E '^pan:1:' log || echo nothing)"
        echo "found, as it must be: $failed"
        ;;
esac
