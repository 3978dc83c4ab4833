#!/bin/busybox sh
# The first process of the virtual machine. tests/harness/vm.rs puts the marker in and reads what
# comes between. It runs twice: first on the root that the kernel unpacked, then in a mount of the
# same that can be pivoted away from.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/busybox HOME=/root
b=/bin/busybox

if [ "$1" != again ]; then
    # pivot_root(2) refuses to leave the kernel's first mount, as it lies on no other. A bind mount
    # on top of it does.
    $b mkdir -p /busybox /proc /sys /dev /tmp /run /root /etc /mnt /var/lib/mybox /newroot
    $b mount --bind / /newroot
    cd /newroot || exit
    $b mount --move . /
    exec $b chroot . /bin/sh /init again
fi

$b --install -s /busybox
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
for directory in /dev/shm /tmp /run /var/lib/mybox; do
    mount -t tmpfs tmpfs $directory
done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read -r module; do
    insmod "/lib/modules/$module" || echo "cannot load $module"
done </lib/modules/order
ip link set lo up
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
echo 'root:x:0:' >/etc/group
# None that answers; without one each run would say so.
echo 'nameserver 192.0.2.53' >/etc/resolv.conf

exec >/dev/ttyS0 2>&1 </dev/null
stty -F /dev/ttyS0 -onlcr 2>/dev/null
echo "@MARKER@ begin"
sh /script
printf '\n%s end %s\n' "@MARKER@" $?
sync
poweroff -f
