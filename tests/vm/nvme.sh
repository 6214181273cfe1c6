#!/bin/bash
# In the guest: ringsan serves the emulated drive, the guest's own kernel is the client, and the drive is then
# read back behind ringsan's back.
# usage: nvme.sh BACKING POLLED [FLAG...]   (/dev/ng0n1 or /dev/nvme0n1; what `status` must say of its way of I/O;
# more flags of `serve`)
set -euo pipefail
backing=$1 polled=$2
shift 2
disk=/dev/nbd0
step() { echo "== $* ($(up) s)"; }

step "serve $backing"
modprobe -a nbd ext4
mkfifo /tmp/log
ringsan serve --volume "disk=$backing" --nbd 127.0.0.1:10809 --admin 127.0.0.1:9810 --data-dir /tmp/data --cores 1 \
    "$@" >/tmp/log 2>&1 &
server=$!
exec 3</tmp/log
until read -r line <&3 && echo "   $line" && [[ $line == *"serves on CPU"* ]]; do kill -0 "$server"; done
cat <&3 & # the rest of its log
ringsan status --admin 127.0.0.1:9810 --json | tee /tmp/status.json | grep -q "$polled" \
    || { echo "status does not say $polled:"; cat /tmp/status.json; exit 1; }

step "attach, fio --verify, 4 KiB to 64 KiB"
nbd-client 127.0.0.1 10809 $disk -name disk
[ "$(blockdev --getsize64 $disk)" = "$(blockdev --getsize64 /dev/nvme0n1)" ]
fio --name=raw --filename=$disk --direct=1 --ioengine=io_uring --iodepth=16 --rw=randwrite --bsrange=4k-64k \
    --size=16m --fdatasync=4 --numjobs=2 --offset_increment=16m --verify=crc32c --verify_fatal=1 --group_reporting \
    --minimal >/tmp/fio.log 2>&1 || { cat /tmp/fio.log; exit 1; }

step "discard and zeroes"
blkdiscard -f --offset 0 --length 8388608 $disk
blkdiscard -f --zeroout --offset 8388608 --length 8388608 $disk
cmp --bytes=8388608 --ignore-initial=8388608 $disk /dev/zero

step "a file system"
mkfs.ext4 -q -F -b 4096 $disk
mkdir -p /mnt/disk && mount $disk /mnt/disk
for i in $(seq 40); do head -c $((i * 3001)) /dev/urandom >/mnt/disk/"$i"; done
(cd /mnt/disk && sha256sum [0-9]*) >/tmp/sums
umount /mnt/disk
nbd-client -d $disk >/dev/null

step "stop, and read the drive without ringsan"
kill -TERM "$server" && wait "$server"
mount -o ro /dev/nvme0n1 /mnt/disk
(cd /mnt/disk && sha256sum --quiet -c /tmp/sums)

step "a mounted drive is refused"
for path in /dev/ng0n1 /dev/nvme0n1; do
    if ringsan serve --volume "disk=$path" --nbd 127.0.0.1:10809 --admin 127.0.0.1:9810 --data-dir /tmp/data \
        --cores 1 >/tmp/refused.log 2>&1; then echo "$path was served while mounted"; exit 1; fi
    grep -q "$path" /tmp/refused.log || { cat /tmp/refused.log; exit 1; }
    tail -n 1 /tmp/refused.log
done
umount /mnt/disk
if dmesg | grep -E 'I/O error|BUG:|WARNING:'; then exit 1; fi
step "done"
