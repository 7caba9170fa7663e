#!/usr/bin/env bash
# make.sh OUTDIR: OUTDIR/vmlinuz and OUTDIR/service.img of a Linux guest that runs Redis, from Debian packages taken apart, not
# installed: the kernel and the initramfs of tests/e2e/linux_guest, and a second archive behind it with what the service needs.
set -euo pipefail
[ $# = 1 ] || { echo "usage: make.sh OUTDIR" >&2; exit 2; }
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
"$here/../../../tests/e2e/linux_guest/make.sh" "$1"
out=$(readlink -f "$1")
packages=(redis-server redis-tools libjemalloc2 liblzf1)

fail() { echo "make.sh: $1" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
# The sandbox user of apt could not write into our temporary directory.
download() { (cd "$1" && apt-get -q -o APT::Sandbox::User=root download "${packages[@]}" >&2); }

exec 9>"$out/service.lock"
flock 9
inputs=$(cat "$here/make.sh" "$here/init" "$out/made" | sha256sum)
[ -s "$out/service.img" ] && [ "$(cat "$out/service-made" 2>/dev/null)" = "$inputs" ] && exit 0

rm -rf "$out"/service-work.*  # of a run that was killed
work=$(mktemp -d "$out/service-work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Lists that are missing, or older than the packages, are fetched once.
download "$work" || { as_root apt-get update -q >&2 && download "$work"; } || fail "apt has no ${packages[*]}"
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/packages"; done

root=$work/root
mkdir -p "$root/bin"
binary=$work/packages/usr/bin/redis-server
cp -L "$binary" "$root/bin/redis-server"
# Everything that it is linked to, under the path where it is looked for; this machine's own packages have the rest.
libraries=$(LD_LIBRARY_PATH="$work/packages/usr/lib/x86_64-linux-gnu" ldd "$binary")
! grep -q 'not found' <<<"$libraries" || fail "a library of redis-server is missing: $libraries"
for library in $(grep -o '/[^ ]*' <<<"$libraries"); do
    target=${library#"$work/packages"}
    mkdir -p "$root$(dirname "$target")"
    cp -L "$library" "$root$target"
done
install -m 755 "$here/init" "$root/init"
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --reproducible --quiet) >"$work/service.cpio"
# The kernel unpacks one archive after the other; the later init replaces the earlier one.
cat "$out/initrd.img" "$work/service.cpio" >"$work/service.img"
chmod 644 "$work/service.img"
rm -f "$out/service-made"
mv "$work/service.img" "$out/service.img"
echo "$inputs" >"$out/service-made"
