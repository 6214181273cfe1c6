#!/bin/bash
# In the guest: one device over two paths, one of which is lost under fio --verify, again and again. No I/O may fail,
# and none may stall for 2 s. Hooks: cut_a, freeze_b and so on lose a path, heal_a and heal_b bring it back.
# usage: failover.sh HOST PORT_A PORT_B EXPORT
set -euo pipefail
host=$1 a=$1:$2 b=$1:$3 export=$4
disk=/dev/nbd0
uri=nbd://$a,$b/$export
step() { echo "== $* ($(up) s)"; }
fail() {
    echo "$*"
    cat /tmp/watch.log
    ringsan-nbd status
    for thread in /proc/"$watcher"/task/*; do echo "$(cat "$thread/comm"): $(head -n 3 "$thread/stack" | tr '\n' ' ')"; done
    dmesg | tail -n 40
    exit 1
}
until_true() { # WHAT COMMAND...
    local what=$1
    shift
    for _ in $(seq 600); do
        if "$@"; then return; fi
        sleep 0.05
    done
    fail "it does not come: $what"
}
live() { [ "$(ringsan-nbd status | grep -c ' live ')" = "$1" ]; }
writes() { awk '{ print $5 }' /sys/block/nbd0/stat; }
moving() { [ "$(($(writes) - before))" -gt 100 ]; }

watch() {
    ringsan-nbd attach "$uri" $disk --connections 2 --persist >/tmp/watch.out 2>>/tmp/watch.log &
    watcher=$!
    until_true "the device" grep -q $disk /tmp/watch.out
}

# lose HOW: fio --verify runs while a path is lost; its longest latency is the stall. A machine that is busy with
# other things may add to that: then once more
lose() { lose_once "$1" || lose_once "$1" || fail "I/O stalled"; }
lose_once() {
    local how=$1 path=${1##*_}
    step "$how"
    before=$(writes)
    fio --name="$how" --filename=$disk --direct=1 --ioengine=io_uring --iodepth=8 --rw=randwrite --bs=16k --size=24m \
        --rate=3m --verify=crc32c --verify_fatal=1 --output-format=json --output=/tmp/fio.json >/tmp/fio.log 2>&1 &
    local load=$!
    until_true "writes" moving
    hostcall "$how"
    kill -0 $load || fail "the load was over before the loss"
    wait $load || { cat /tmp/fio.log; fail "an I/O error, or wrong bytes"; }
    local stall
    stall=$(grep -A3 '"clat_ns"' /tmp/fio.json | sed -n 's/.*"max" : \([0-9]*\).*/\1/p' | sort -n | tail -n 1)
    echo "   $how: the longest I/O took $((stall / 1000000)) ms"
    hostcall "heal_$path"
    until_true "all four connections again" live 4
    [ "$stall" -lt 2000000000 ]
}

modprobe -a nbd ext4
step "attach to two hosts, of which one is not there yet"
hostcall cut_b
watch
until_true "two connections" live 2
ringsan-nbd status
hostcall heal_b
until_true "four connections" live 4

for how in cut_a cut_b freeze_a; do lose $how; done

step "both are lost, and come back: I/O waits, and goes on"
hostcall cut_a
hostcall cut_b
until_true "no connection" live 0
dd if=/dev/urandom of=$disk bs=1M count=1 oflag=direct status=none &
writer=$!
hostcall heal_a
wait $writer || fail "the write failed"
hostcall heal_b
until_true "four connections" live 4

step "another export in the place of b is not let in"
hostcall swap_b
until_true "a refusal" grep -q "$b: export \"$export\" has 67108864 bytes" /tmp/watch.log
live 2 || fail "it was let in"
hostcall restore_b
until_true "four connections" live 4

step "the watch dies, and the next one takes the device over"
kill -KILL $watcher && wait $watcher || true
ringsan-nbd status | grep -q "NOT WATCHED" || fail "status says nothing of the watch's death"
: >/tmp/watch.out
watch
lose cut_a

step "both are only slow: I/O goes on, and requests may take longer from now on"
fio --name=slow --filename=$disk --direct=1 --ioengine=io_uring --iodepth=8 --rw=randwrite --bs=16k --size=24m \
    --rate=3m --verify=crc32c --verify_fatal=1 --minimal >/tmp/fio.log 2>&1 &
load=$!
before=$(writes)
until_true "writes" moving
hostcall freeze_a
hostcall freeze_b
until_true "no connection" live 0
hostcall heal_a
hostcall heal_b
wait $load || { cat /tmp/fio.log; fail "an I/O error, or wrong bytes"; }
until_true "four connections" live 4
grep -q "they may take 2 s" /tmp/watch.log || fail "the watch says nothing of slowness"
[ "$(cat /sys/block/nbd0/queue/io_timeout)" = 2000 ] || fail "the timeout is $(cat /sys/block/nbd0/queue/io_timeout)"

step "a file system above it, lost and detached"
mkfs.ext4 -q -F $disk
mkdir -p /mnt/disk && mount $disk /mnt/disk
head -c 5000001 /dev/urandom >/mnt/disk/file && sha256sum /mnt/disk/file >/tmp/sum
hostcall cut_a
sync -f /mnt/disk && echo 3 >/proc/sys/vm/drop_caches
sha256sum --quiet -c /tmp/sum
umount /mnt/disk
ringsan-nbd detach $disk
wait $watcher || fail "the watch ended with an error"
grep -q "it was detached" /tmp/watch.log || fail "the watch does not say that it was detached"
[ "$(ringsan-nbd status)" = "nothing is attached" ] || fail "something is left"
echo "   the watch said:" && sed 's/^/   | /' /tmp/watch.log
if dmesg | grep -E 'I/O error|BUG:|WARNING:|hung task'; then exit 1; fi
step "done"
