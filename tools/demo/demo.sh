#!/usr/bin/env bash
# demo.sh BIN-DIR OUT-DIR: two agents on loopback, a guest that writes its memory all the while, a
# live migration there and back. Writes OUT-DIR/report.json; fails if the guest counted one error.
# Ctrl-C leaves no process and no file behind.
set -euo pipefail
bin=$(readlink -f "$1")
out=$2
mkdir -p "$out"
out=$(readlink -f "$out")
rm -f "$out/report.json"
state=$(mktemp -d /tmp/godwit-demo-XXXXXX)
agents=()
sampler=""

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

clean_up() {
    trap - EXIT INT TERM
    [ -z "$sampler" ] || kill -TERM "$sampler" 2>/dev/null || true
    for side in a b; do
        [ -s "$state/$side/address" ] && on "$side" vm stop demo --force >/dev/null 2>&1 || true
    done
    for pid in "${agents[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${agents[@]}"; do wait "$pid" 2>/dev/null || true; done
    # What an agent that was killed itself could not clean up.
    for record in "$state"/*/vms/*/vm.json; do
        [ -e "$record" ] || continue
        pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$record" | head -n 1)
        [ -n "$pid" ] && grep -qs "$state" "/proc/$pid/cmdline" && kill -KILL "$pid"
    done
    for mount in "$state"/*/ram-*; do
        mountpoint -q "$mount" 2>/dev/null && umount -l "$mount" || true
    done
    rm -rf "$state"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

on() { "$bin/godwit" --agent "$(cat "$state/$1/address")" "${@:2}"; }

start_agent() {
    mkdir -p "$state/$1"
    # A session of its own: Ctrl-C reaches this script, which then ends things in order.
    setsid "$bin/godwitd" --listen 127.0.0.1:0 --state-dir "$state/$1" --log-level warn \
        >"$out/agent-$1.log" 2>&1 &
    local pid=$!
    agents+=("$pid")
    for _ in $(seq 400); do
        [ -s "$state/$1/address" ] && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "the agent did not start:" >&2
    cat "$out/agent-$1.log" >&2
    exit 1
}

# The guest's own word, out of its RAM file.
testimony() { "$bin/guest-mailbox" "$(on "$1" vm show demo --json | sed -n 's/.*"\(\/.*-ram0\)".*/\1/p')" "${@:2}"; }

say "Two agents on this machine"
start_agent a
start_agent b
on a host

say "A guest of 1 GiB that writes 20,000 pages/s of a 256 MiB working set, and checks each of them"
accel=tcg
on a host --json | grep -q '"kvm": true' && accel=kvm
firmware=""
[ -e /usr/share/qemu/qboot.rom ] && firmware="firmware: /usr/share/qemu/qboot.rom"
cat >"$state/demo.yaml" <<YAML
name: demo
memory: 1GiB
vcpus: 1
accel: $accel
kernel: $bin/guest.elf
append: "ws=256M rate=20000 pattern=random"
$firmware
YAML
on a vm start "$state/demo.yaml"
testimony a --wait-running 60
testimony a

migrate() {
    say "Live migration $1 -> $2"
    "$bin/guest-mailbox" --blackout "$(ram_of "$1")" "$state/$2/ram-thp" >"$out/blackout.txt" 2>/dev/null &
    sampler=$!
    on "$1" migrate demo --to "$(cat "$state/$2/address")" --verify
    on "$1" report demo --json >"$out/report-$1-$2.json"
    kill -TERM "$sampler" 2>/dev/null || true
    wait "$sampler" 2>/dev/null || true
    sampler=""
    cat "$out/blackout.txt"
    testimony "$2" --wait-progress 10
    testimony "$2"
}
ram_of() { on "$1" vm show demo --json | sed -n 's/.*"\(\/.*-ram0\)".*/\1/p'; }
migrate a b
migrate b a

{
    printf '{"there": '
    cat "$out/report-a-b.json"
    printf ', "back": '
    cat "$out/report-b-a.json"
    printf ', "guest": '
    testimony a --json
    printf '}\n'
} >"$out/report.json"
rm -f "$out"/report-?-?.json
errors=$(testimony a --errors)
say "The guest counted $errors errors; report: $out/report.json"
[ "$errors" = 0 ]
