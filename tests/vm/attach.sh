#!/bin/bash
# In the guest: the kernel attaches an export by nbd-client, and everything that a disk must do is done to it.
# usage: attach.sh HOST PORT EXPORT BYTES CONNECTIONS
set -euo pipefail
host=$1 port=$2 export=$3 bytes=$4 connections=$5
disk=/dev/nbd0
step() { echo "== $* ($(up) s)"; }
same() { [ "$2" = "$3" ] || { echo "$1: expected $2, got $3"; exit 1; }; }

step "attach with $connections connection(s)"
modprobe -a nbd ext4
nbd-client "$host" "$port" "$disk" -name "$export" -connections "$connections"
same "size of $disk" "$bytes" "$(blockdev --getsize64 $disk)"
same "discard offered" 1 "$(($(cat /sys/block/nbd0/queue/discard_max_bytes) > 0))"

step "fio --verify on the raw device"
test -b "$disk"   # without it fio would make a regular file, and pass
fio --name=raw --filename=$disk --direct=1 --ioengine=io_uring --iodepth=16 --rw=randwrite --bsrange=4k-64k \
    --size=16m --numjobs=2 --offset_increment=16m --verify=crc32c --verify_fatal=1 --group_reporting \
    --minimal >/tmp/fio.log 2>&1 || { cat /tmp/fio.log; exit 1; }

step "mkfs.ext4, mount, a tree of files"
mkfs.ext4 -q -F "$disk"
mkdir -p /mnt/disk && mount -o discard "$disk" /mnt/disk
for i in $(seq 40); do
    mkdir -p "/mnt/disk/$((i % 7))" && head -c "$((i * 3001))" /dev/urandom >"/mnt/disk/$((i % 7))/$i"
done
fio --name=file --directory=/mnt/disk --size=4m --rw=randrw --bs=4k --fsync=64 --verify=crc32c --verify_fatal=1 \
    --minimal >/tmp/fio.log 2>&1 || { cat /tmp/fio.log; exit 1; }
(cd /mnt/disk && find . -type f -exec sha256sum {} + | sort) >/tmp/sums
rm -r /mnt/disk/3 && fstrim -v /mnt/disk && sed -i '\|  \./3/|d' /tmp/sums
umount /mnt/disk

step "detach, attach again, compare"
nbd-client -d "$disk" >/dev/null
until [ "$(blockdev --getsize64 $disk 2>/dev/null || echo 0)" = 0 ]; do sleep 0.05; done
nbd-client "$host" "$port" "$disk" -name "$export" -connections "$connections"
fsck.ext4 -fn "$disk" >/tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; exit 1; }
mount -o ro "$disk" /mnt/disk
(cd /mnt/disk && sha256sum --quiet -c /tmp/sums)
umount /mnt/disk

step "blkdiscard, and zeroes by BLKZEROOUT"
blkdiscard -f "$disk"
blkdiscard -f --zeroout --offset 0 --length 33554432 "$disk"
cmp --bytes=33554432 "$disk" /dev/zero
if dmesg | grep -E 'nbd0.*(timed out|error)|I/O error|BUG:|WARNING:'; then exit 1; fi
nbd-client -d "$disk" >/dev/null
step "done"
