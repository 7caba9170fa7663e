#!/usr/bin/env bash
# make.sh OUTDIR: OUTDIR/vmlinuz and OUTDIR/initrd.img of a Linux guest, from Debian packages taken apart, not installed.
# What is there already and up to date is left alone; to follow a newer kernel package, remove OUTDIR/made.
set -euo pipefail
[ $# = 1 ] || { echo "usage: make.sh OUTDIR" >&2; exit 2; }
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
mkdir -p "$1"
out=$(readlink -f "$1")

metapackage=linux-image-cloud-amd64
wanted_modules=(virtio_pci virtio_blk virtio_net virtio_balloon)
busybox=/bin/busybox  # of busybox-static

fail() { echo "make.sh: $1" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# The sandbox user of apt could not write into our temporary directory.
apt_get() { apt-get -q -o APT::Sandbox::User=root "$@"; }

kernel_package() {
    { apt-cache depends "$metapackage" 2>/dev/null || true; } | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

# Lists that are missing, or older than the package they name, are fetched once.
download_kernel() {
    local package
    package=$(kernel_package)
    if [ -z "$package" ] || ! (cd "$1" && apt_get download "$package" >&2); then
        as_root apt-get update -q >&2
        package=$(kernel_package)
        [ -n "$package" ] || fail "apt knows no package behind $metapackage: is a Debian amd64 source configured?"
        (cd "$1" && apt_get download "$package" >&2)
    fi
}

# add_module NAME: copies a module after those it depends on, each once, in the order to load them. What is built in is passed over.
add_module() {
    ! grep -q "/$1\.ko" "$modules/modules.builtin" || return 0
    local file dependency
    file=$(find "$modules" -name "$1.ko")
    [ -f "$file" ] || fail "no module $1.ko in the kernel package, or a compressed one"
    for dependency in $(tr '\0' '\n' <"$file" | LC_ALL=C sed -n 's/^depends=//p' | tr ',' ' '); do
        add_module "$dependency"
    done
    [ ! -f "$root/modules/$1.ko" ] || return 0
    cp "$file" "$root/modules/$1.ko"
    echo "$1" >>"$root/modules/order"
}

[ -x "$busybox" ] || fail "$busybox is missing: install busybox-static"
inputs=$(cat "$here/make.sh" "$here/init" "$busybox" | sha256sum)
exec 9>"$out/lock"
flock 9
if [ -s "$out/vmlinuz" ] && [ -s "$out/initrd.img" ] && [ "$(cat "$out/made" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi

rm -rf "$out"/work.*  # of a run that was killed
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
download_kernel "$work"
dpkg-deb -x "$work"/*.deb "$work/kernel"
modules=$(echo "$work"/kernel/lib/modules/*)

root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,run,modules}
: >"$root/modules/order"
for module in "${wanted_modules[@]}"; do add_module "$module"; done
cp "$busybox" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
install -m 755 "$here/init" "$root/init"
# Not compressed: unpacking would cost an emulated CPU more than the bytes do.
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --reproducible --quiet) >"$work/initrd.img"

# Kernel and modules belong together: the stamp goes first and comes back last.
rm -f "$out/made"
mv "$work"/kernel/boot/vmlinuz-* "$out/vmlinuz"
mv "$work/initrd.img" "$out/initrd.img"
chmod 644 "$out/vmlinuz" "$out/initrd.img"
echo "$inputs" >"$work/made"
mv "$work/made" "$out/made"
