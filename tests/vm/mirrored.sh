#!/bin/bash
# In the guest: one device on both nodes of a mirrored volume, of which the one that does not lead is killed under
# fio --verify, then the lead moves, and the other one is. No I/O may fail, and none may stall for 2 s.
# usage: mirrored.sh HOST PORT_A PORT_B EXPORT
set -euo pipefail
host=$1 a=$1:$2 b=$1:$3 export=$4
disk=/dev/nbd0
step() { echo "== $* ($(up) s)"; }
fail() {
    echo "$*"
    cat /tmp/watch.log
    ringsan-nbd status
    dmesg | tail -n 40
    exit 1
}
until_true() { # WHAT COMMAND...
    local what=$1
    shift
    for _ in $(seq 1200); do
        if "$@"; then return; fi
        sleep 0.05
    done
    fail "it does not come: $what"
}
live() { [ "$(ringsan-nbd status | grep -c ' live ')" = "$1" ]; }
writes() { awk '{ print $5 }' /sys/block/nbd0/stat; }
moving() { [ "$(($(writes) - before))" -gt 100 ]; }

# lose NODE: its longest latency is the stall; a machine that is busy with other things may add to that: then once more
lose() { lose_once "$1" || lose_once "$1" || fail "I/O stalled"; }
lose_once() {
    local node=$1 load stall
    step "kill $node"
    before=$(writes)
    fio --name="$node" --filename=$disk --direct=1 --ioengine=io_uring --iodepth=8 --rw=randwrite --bs=16k --size=24m \
        --rate=3m --verify=crc32c --verify_fatal=1 --output-format=json --output=/tmp/fio.json >/tmp/fio.log 2>&1 &
    load=$!
    until_true "writes" moving
    hostcall "kill_$node"
    kill -0 $load || fail "the load was over before the loss"
    wait $load || { cat /tmp/fio.log; fail "an I/O error, or wrong bytes"; }
    stall=$(grep -A3 '"clat_ns"' /tmp/fio.json | sed -n 's/.*"max" : \([0-9]*\).*/\1/p' | sort -n | tail -n 1)
    echo "   kill $node: the longest I/O took $((stall / 1000000)) ms"
    hostcall "start_$node"
    until_true "all four connections again" live 4
    [ "$stall" -lt 2000000000 ]
}

modprobe -a nbd ext4
step "attach to both nodes"
ringsan-nbd attach "nbd://$a,$b/$export" $disk --connections 2 --persist >/tmp/watch.out 2>>/tmp/watch.log &
watcher=$!
until_true "the device" grep -q $disk /tmp/watch.out
until_true "four connections" live 4

lose b
step "the lead moves to b"
hostcall lead_b
lose a

step "a file system above it"
mkfs.ext4 -q -F $disk
mkdir -p /mnt/disk && mount $disk /mnt/disk
head -c 5000001 /dev/urandom >/mnt/disk/file && sha256sum /mnt/disk/file >/tmp/sum
sync -f /mnt/disk && echo 3 >/proc/sys/vm/drop_caches
sha256sum --quiet -c /tmp/sum
umount /mnt/disk
ringsan-nbd detach $disk
wait $watcher || fail "the watch ended with an error"
if dmesg | grep -E 'I/O error|BUG:|WARNING:|hung task'; then exit 1; fi
step "done"
