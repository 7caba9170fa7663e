#!/usr/bin/env bash
# libvirt_demo.sh BIN-DIR OUT-DIR HOST-SCRIPT: two libvirts in namespaces of their own, an agent for
# each, a domain that writes its memory all the while; a live migration there and back, and what virsh
# says. Fails if the guest counted one error. Ctrl-C leaves no process and no file behind.
set -euo pipefail
bin=$(readlink -f "$1")
host_script=$(readlink -f "$3")
mkdir -p "$2"
out=$(readlink -f "$2")
state=$(mktemp -d /tmp/godwit-demo-XXXXXX)
declare -A holder=()
pids=()

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Within a host's mounts and names; its network is libvirt's alone.
in_host() { nsenter --mount="/proc/${holder[$1]}/ns/mnt" --uts="/proc/${holder[$1]}/ns/uts" "${@:2}"; }
virsh_on() { in_host "$1" virsh -q -c qemu:///system "${@:2}"; }
on() { "$bin/godwit" --agent "$(cat "$state/agent-$1/address")" "${@:2}"; }

clean_up() {
    trap - EXIT INT TERM
    for host in "${!holder[@]}"; do virsh_on "$host" destroy demo >/dev/null 2>&1 || true; done
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$state"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A daemon in a session of its own, that Ctrl-C does not reach.
background() {
    setsid "${@:2}" >"$out/$1.log" 2>&1 </dev/null &
    pids=("$!" "${pids[@]}")
}
await() {
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "not in time: $*" >&2
    exit 1
}

start_host() {
    local root=$state/$1 uuid=$2
    mkdir -p "$root" "$state/agent-$1"
    background "host-$1" unshare --mount --uts --net "$host_script" "$root" "host$1" "$uuid"
    holder[$1]=$!
    await test -e "$root/ready"
    local net="--net=/proc/${holder[$1]}/ns/net"
    local names=(--mount="/proc/${holder[$1]}/ns/mnt" --uts="/proc/${holder[$1]}/ns/uts")
    background "virtlogd-$1" nsenter "${names[@]}" "$net" virtlogd
    background "libvirtd-$1" nsenter "${names[@]}" "$net" libvirtd
    await virsh_on "$1" version
    background "agent-$1" nsenter "${names[@]}" "$bin/godwitd" --driver libvirt:qemu:///system \
        --listen 127.0.0.1:0 --state-dir "$state/agent-$1" --log-level warn
    await test -s "$state/agent-$1/address"
}

ram_of() { echo "/proc/${holder[$1]}/root$(on "$1" vm show demo --json | sed -n 's/.*"\(\/.*pc.ram\)".*/\1/p')"; }
testimony() { "$bin/guest-mailbox" "$(ram_of "$1")" "${@:2}"; }

say "Two libvirts on this machine, and an agent for each"
start_host a 11111111-1111-4111-8111-111111111111
start_host b 22222222-2222-4222-8222-222222222222
on a host

say "A domain of 512 MiB that writes 20,000 pages/s of a 128 MiB working set, and checks each of them"
type=qemu cpu="<model>qemu64</model>" mode=custom
if on a host --json | grep -q '"kvm": true'; then
    # Software-assisted KVM offers this MSR and then refuses it.
    type=kvm mode=host-passthrough cpu="<feature policy='disable' name='arch-capabilities'/>"
fi
loader=""
[ -e /usr/share/qemu/qboot.rom ] && loader="<loader type='rom' readonly='yes'>/usr/share/qemu/qboot.rom</loader>"
cat >"$state/demo.xml" <<XML
<domain type='$type'>
  <name>demo</name>
  <memory unit='MiB'>512</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>$loader<kernel>$bin/guest.elf</kernel>
    <cmdline>ws=128M rate=20000 pattern=random</cmdline></os>
  <features><acpi/></features>
  <cpu mode='$mode'>$cpu</cpu>
  <devices><serial type='pty'/><controller type='usb' model='none'/></devices>
</domain>
XML
virsh_on a define "$state/demo.xml"
in_host a "$bin/godwit" libvirt check demo || true
in_host a "$bin/godwit" libvirt enable demo --yes
virsh_on a start demo
await testimony a
testimony a --wait-running 60
in_host a "$bin/godwit" libvirt check demo

migrate() {
    say "Live migration $1 -> $2"
    on "$1" migrate demo --to "$(cat "$state/agent-$2/address")" --verify
    for host in a b; do
        echo "virsh list --all at host$host:"
        virsh_on "$host" list --all | sed '/^$/d'
    done
    testimony "$2" --wait-progress 10
    testimony "$2"
}
migrate a b
migrate b a

errors=$(testimony a --errors)
say "The guest counted $errors errors"
[ "$errors" = 0 ]
