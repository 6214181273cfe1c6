#!/bin/bash
# In the guest: ringsan-nbd attaches, refuses what cannot be, detaches, and leaves nothing behind in between.
# usage: client.sh HOST PORT EXPORT BYTES CONNECTIONS
set -euo pipefail
host=$1 port=$2 export=$3 bytes=$4 connections=$5
uri=nbd://$host:$port/$export
step() { echo "== $* ($(up) s)"; }
fail() { echo "$*"; dmesg | tail -n 20; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: expected $2, got $3"; }
quietly() { "$@" >/tmp/quiet.log 2>&1 || { cat /tmp/quiet.log; fail "failed: $*"; }; }

# refused STATUS WORDS COMMAND...: it fails with this status and one line, which has these words
refused() {
    local status=$1 words=$2 got=0
    shift 2
    "$@" >/tmp/refused.log 2>&1 || got=$?
    same "status of $*: $(cat /tmp/refused.log)" "$status" "$got"
    same "lines of $*: $(cat /tmp/refused.log)" 1 "$(wc -l </tmp/refused.log)"
    grep -q -- "$words" /tmp/refused.log || fail "$*: no '$words' in: $(cat /tmp/refused.log)"
    echo "   $(cat /tmp/refused.log)"
}
free() { [ ! -e "/sys/block/${1#/dev/}/pid" ] || fail "$1 is still attached"; }

step "no driver"
mkdir -p /etc/modprobe.d && echo "blacklist nbd" >/etc/modprobe.d/none.conf
refused 9 "modprobe nbd" ringsan-nbd attach "$uri"
rm /etc/modprobe.d/none.conf
modprobe ext4

step "what cannot be attached leaves nothing behind"
refused 4 "$export" ringsan-nbd attach "nbd://$host:$port/other" /dev/nbd0
refused 3 "$host" ringsan-nbd attach "nbd://$host:1/$export" /dev/nbd0
refused 2 "nbd device" ringsan-nbd attach "$uri" /dev/sda
refused 2 "write 512, 1024, 2048 or 4096" ringsan-nbd attach "$uri" /dev/nbd0 --block-size 8192
RINGSAN_NBD_STATE=/proc refused 1 "/proc" ringsan-nbd attach "$uri" /dev/nbd0
free /dev/nbd0
same "status" "nothing is attached" "$(ringsan-nbd status)"
refused 1 "not attached" ringsan-nbd detach /dev/nbd0

step "attach with $connections connection(s), to any device"
disk=$(ringsan-nbd attach "$uri" --connections "$connections")
same "device" /dev/nbd0 "$disk"
same "size" "$bytes" "$(blockdev --getsize64 "$disk")"
same "backend" "$uri" "$(cat /sys/block/nbd0/backend)"
same "timeout" 30000 "$(cat /sys/block/nbd0/queue/io_timeout)"
ringsan-nbd status
same "connections that live" "$connections" "$(ringsan-nbd status | grep -c ' live ')"
refused 8 "in use" ringsan-nbd attach "$uri" "$disk"

step "fio --verify, mkfs.ext4, mount"
test -b "$disk"
quietly fio --name=raw --filename="$disk" --direct=1 --ioengine=io_uring --iodepth=16 --rw=randwrite \
    --bsrange=4k-64k --size=8m --numjobs=2 --offset_increment=16m --verify=crc32c --verify_fatal=1 --minimal
mkfs.ext4 -q -F "$disk"
mkdir -p /mnt/disk && mount -o discard "$disk" /mnt/disk
head -c 3000001 /dev/urandom >/mnt/disk/file && sha256sum </mnt/disk/file >/tmp/sum
refused 8 "/mnt/disk" ringsan-nbd detach "$disk"
umount /mnt/disk
sleep 60 <"$disk" &
opener=$!
until ls -l "/proc/$opener/fd" | grep -q "$disk"; do sleep 0.05; done
refused 8 "sleep" ringsan-nbd detach "$disk"
kill $opener && wait $opener || true

step "detach, attach again read-only, compare"
ringsan-nbd detach "$disk"
free "$disk"
same "status" "nothing is attached" "$(ringsan-nbd status)"
same "device" /dev/nbd3 "$(ringsan-nbd attach "$uri" /dev/nbd3 --read-only --timeout 1500ms)"
same "timeout" 1500 "$(cat /sys/block/nbd3/queue/io_timeout)"
same "read-only" 1 "$(cat /sys/block/nbd3/ro)"
mount -o ro,noload /dev/nbd3 /mnt/disk
same "the file" "$(cat /tmp/sum)" "$(sha256sum </mnt/disk/file)"
umount /mnt/disk
ringsan-nbd detach nbd3

step "somebody else's device is told as such"
nbd-client "$host" "$port" /dev/nbd1 -name "$export" >/dev/null
ringsan-nbd status | grep -q "/dev/nbd1.*not by ringsan-nbd" || fail "$(ringsan-nbd status)"
ringsan-nbd detach /dev/nbd1
free /dev/nbd1

step "not root"
echo "user:x:1000:1000::/tmp:/bin/sh" >>/etc/passwd
refused 1 "sudo" busybox su user -s /bin/sh -c "ringsan-nbd attach $uri /dev/nbd0"
free /dev/nbd0
if dmesg | grep -E 'nbd.*(timed out|error)|I/O error|BUG:|WARNING:'; then exit 1; fi
step "done"
