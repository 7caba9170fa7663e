// Which file or device a path leads to: the path of a disk at another host may lead to quite
// another one.
#pragma once

#include <string>

namespace godwit {

// Identities of one kind are of one disk exactly where their ids are equal; nothing follows from
// two kinds, nor from an empty id.
struct DiskIdentity {
    std::string kind;  // words for an operator
    std::string id;    // empty: nothing tells this disk from others
};

struct DiskSources {
    std::string sysfs = "/sys";
    std::string boot_id;  // of the host, see boot_id(); empty: files have no identity
};
DiskSources this_host();

// An id have
// - regular files on file systems that one host mounts at a time (ext4, xfs, btrfs, f2fs, tmpfs):
//   the host's boot, device, inode and time of birth. What a network or a cluster file system
//   tells of a file may differ from client to client.
// - block devices that sysfs has one of: a logical volume, a multipath map, or what the device
//   itself says (SCSI, NVMe: "wwid"); their partitions with the number beside it.
// An empty path is a disk on network storage. Never fails: a path that leads nowhere has no id.
// Opens nothing but files of sysfs.
DiskIdentity disk_identity(const std::string& path, const DiskSources& sources);

// The same of the block device of that number.
DiskIdentity device_identity(unsigned int major, unsigned int minor, const std::string& sysfs);

}  // namespace godwit
