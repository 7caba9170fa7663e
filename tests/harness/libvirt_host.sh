#!/usr/bin/env bash
# libvirt_host.sh ROOT NAME UUID: makes a host for libvirt out of fresh mount, UTS and network
# namespaces (`unshare --mount --uts --net`), whose files are below ROOT; then waits to be killed.
set -euo pipefail
root=$1 name=$2 uuid=$3
mount --make-rprivate /
hostname "$name"
ip link set lo up
# Two of them may share a network.
ip link show br0 >/dev/null 2>&1 || ip link add br0 type bridge
ip link set br0 up
mkdir -p "$root"/{etc,lib,log,cache,run} /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
mount -t tmpfs none /run
mkdir -p /run/libvirt /run/godwit-ram
mount --bind "$root/etc" /etc/libvirt
mount --bind "$root/lib" /var/lib/libvirt
mount --bind "$root/log" /var/log/libvirt
mount --bind "$root/cache" /var/cache/libvirt
# Its socket can be reached from the other host too.
mount --bind "$root/run" /run/libvirt
mount -t tmpfs -o huge=always none /run/godwit-ram
# Its pages are reserved by the test that uses them.
mkdir -p /run/godwit-huge
mount -t hugetlbfs -o pagesize=2M none /run/godwit-huge || rmdir /run/godwit-huge
# libvirt looks its usual user up even where QEMU runs as another.
for file in passwd group; do cp "/etc/$file" "$root/$file"; done
echo 'libvirt-qemu:x:64055:64055::/:/bin/false' >>"$root/passwd"
echo 'libvirt-qemu:x:64055:' >>"$root/group"
for file in passwd group; do mount --bind "$root/$file" "/etc/$file"; done
cat >/etc/libvirt/qemu.conf <<CONF
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
security_driver = "none"
remember_owner = 0
cgroup_controllers = []
namespaces = []
memory_backing_dir = "${GODWIT_TEST_MEMORY_DIR:-/run/godwit-ram}"
CONF
cat >/etc/libvirt/libvirtd.conf <<CONF
host_uuid = "$uuid"
auth_unix_rw = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
CONF
touch /etc/libvirt/virtlogd.conf "$root/ready"
exec sleep infinity
