#!/bin/bash
# In the guest: the kernel's initiator discovers the target, logs in in every way that open-iscsi has, and everything
# that a disk must do is done to it. The host grows the volume and restarts the target when asked to.
# usage: iscsi.sh HOST:PORT PREFIX BYTES GROWN    (targets PREFIX:disk, PREFIX:chap and PREFIX:mutual; users and
# secrets are below; hook `resize` makes disk GROWN bytes, `restart` restarts the target, `crash` kills it first)
set -euo pipefail
portal=$1 prefix=$2 bytes=$3 grown=$4
secret=a-secret-of-alice back=the-targets-secret
step() { echo "== $* ($(up) s)"; }
fail() { echo "$*"; dmesg | tail -n 30; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: expected $2, got $3"; }
quietly() { "$@" >/tmp/quiet.log 2>&1 || { cat /tmp/quiet.log; fail "failed: $*"; }; }

node() { iscsiadm -m node -T "$prefix:$1" -p "$portal" "${@:2}"; }
setting() { node "$1" --op update -n "$2" -v "$3"; }
parameter() { cat /sys/class/iscsi_connection/connection*/"$1"; }

# Logs in, and names the disk that appears.
disk=
login() {
    quietly node "$1" --login
    for _ in $(seq 600); do
        disk=$(echo /sys/class/iscsi_session/session*/device/target*/*:0:0:*/block/sd*)
        disk=/dev/${disk##*/}
        if [ -b "$disk" ]; then return; fi
        sleep 0.05
    done
    fail "$1: no disk after the login"
}
logout() {
    quietly node "$1" --logout
    for _ in $(seq 600); do
        if [ ! -e "/sys/block/${disk#/dev/}" ]; then return; fi
        sleep 0.05
    done
    fail "$1: the disk stays after the logout"
}

verify() {
    test -b "$disk" || fail "no disk $disk" # without it fio would make a regular file, and pass
    quietly fio --name=raw --filename="$disk" --direct=1 --ioengine=io_uring --iodepth=16 --rw=randwrite \
        --bsrange=4k-128k --size="$1" --verify=crc32c --verify_fatal=1 --minimal
}

step "discovery"
modprobe -a iscsi_tcp sd_mod sg ext4
iscsid
iscsiadm -m discovery -t sendtargets -p "$portal" >/tmp/targets
for target in disk chap mutual; do
    grep -qxF "$portal,1 $prefix:$target" /tmp/targets || { cat /tmp/targets; fail "$target was not discovered"; }
done

step "login without authentication"
setting disk node.session.timeo.replacement_timeout 120
login disk
same "size of $disk" "$bytes" "$(blockdev --getsize64 "$disk")"
same "session" "$prefix:disk" "$(cat /sys/class/iscsi_session/session*/targetname)"
same "digests" "0 0" "$(parameter header_digest) $(parameter data_digest)"
queue=/sys/block/${disk#/dev/}/queue
same "discard offered" 1 "$(($(cat "$queue/discard_max_bytes") > 0))"
grep -q 'write' "$queue/write_cache"

step "what the unit says of itself"
sg_inq "$disk" | grep -q RINGSAN || fail "sg_inq: $(sg_inq "$disk")"
for page in sn di bl bdc lbpv sv; do quietly sg_vpd --page=$page "$disk"; done
for tool in sg_luns sg_turs sg_modes sg_opcodes "sg_readcap --16" sg_requests sg_sync "sg_get_lba_status --lba=0"; do
    # shellcheck disable=SC2086  # words
    quietly $tool "$disk"
done

step "fio --verify on the raw device"
verify 24m

step "mkfs.ext4, mount, files"
mkfs.ext4 -q -F "$disk"
mkdir -p /mnt/disk && mount -o discard "$disk" /mnt/disk
for i in $(seq 20); do
    mkdir -p "/mnt/disk/$((i % 5))" && head -c "$((i * 3001))" /dev/urandom >"/mnt/disk/$((i % 5))/$i"
done
quietly fio --name=file --directory=/mnt/disk --size=4m --rw=randrw --bs=4k --fsync=64 --verify=crc32c \
    --verify_fatal=1 --minimal
(cd /mnt/disk && find . -type f -exec sha256sum {} + | sort) >/tmp/sums
umount /mnt/disk

step "logout, login with both digests, compare"
logout disk
setting disk 'node.conn[0].iscsi.HeaderDigest' CRC32C
setting disk 'node.conn[0].iscsi.DataDigest' CRC32C
login disk
same "digests" "1 1" "$(parameter header_digest) $(parameter data_digest)"
quietly fsck.ext4 -fn "$disk"
mount -o ro "$disk" /mnt/disk
(cd /mnt/disk && sha256sum --quiet -c /tmp/sums)
umount /mnt/disk
verify 8m

step "the target grows"
hostcall resize
echo 1 >"/sys/block/${disk#/dev/}/device/rescan"
same "size after the rescan" "$grown" "$(blockdev --getsize64 "$disk")"

step "persistent reservations, and a restart under load"
persist() { sg_persist --no-inquiry "$@" "$disk"; }
quietly persist --out --register --param-sark=0xabc --param-aptpl
quietly persist --out --reserve --param-rk=0xabc --prout-type=5
persist --in --read-keys | grep -q 0xabc || fail "the key is not there"
writes() { awk '{ print $5 }' "/sys/block/${disk#/dev/}/stat"; }
fio --name=load --filename="$disk" --direct=1 --ioengine=io_uring --iodepth=8 --rw=randwrite --bs=16k --size=40m \
    --rate=2500k --verify=crc32c --verify_fatal=1 --minimal >/tmp/load.log 2>&1 &
load=$!
for how in restart crash; do
    before=$(writes)
    until [ "$(($(writes) - before))" -gt 60 ]; do
        kill -0 $load || { cat /tmp/load.log; fail "the load was over before the $how"; }
        sleep 0.1
    done
    hostcall $how
    kill -0 $load || fail "the load was over before the target was back from the $how"
done
wait $load || { cat /tmp/load.log; fail "an I/O error, or wrong bytes"; }
persist --in --read-reservation | grep -q 0xabc || fail "the reservation did not survive the restart"
quietly persist --out --release --param-rk=0xabc --prout-type=5
quietly persist --out --register --param-rk=0xabc --param-sark=0

step "resets"
quietly sg_reset --device "$disk"
quietly sg_reset --target "$disk"
verify 4m

step "blkdiscard, and zeroes by BLKZEROOUT"
blkdiscard -f "$disk"
blkdiscard -f --zeroout --offset 0 --length 16777216 "$disk"
cmp --bytes=16777216 "$disk" /dev/zero
logout disk

step "CHAP"
if node chap --login >/tmp/refused.log 2>&1; then fail "a login without CHAP where it is needed"; fi
setting chap node.session.auth.authmethod CHAP
setting chap node.session.auth.username alice
setting chap node.session.auth.password "not-$secret"
if node chap --login >/tmp/refused.log 2>&1; then fail "a login with a wrong secret"; fi
setting chap node.session.auth.password "$secret"
login chap
verify 4m
logout chap

step "mutual CHAP, with digests"
setting mutual node.session.auth.authmethod CHAP
setting mutual node.session.auth.username alice
setting mutual node.session.auth.password "$secret"
setting mutual node.session.auth.username_in target
setting mutual node.session.auth.password_in "not-$back"
setting mutual 'node.conn[0].iscsi.HeaderDigest' CRC32C
setting mutual 'node.conn[0].iscsi.DataDigest' CRC32C
if node mutual --login >/tmp/refused.log 2>&1; then fail "a target that cannot prove itself was believed"; fi
setting mutual node.session.auth.password_in "$back"
login mutual
same "digests" "1 1" "$(parameter header_digest) $(parameter data_digest)"
verify 4m
logout mutual
if dmesg | grep -E 'I/O error|critical|BUG:|WARNING:|digest'; then exit 1; fi
step "done"
