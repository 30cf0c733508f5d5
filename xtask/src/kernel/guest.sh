#!/bin/busybox sh
# Runs as the first process of a virtual machine: builds with limits under one layout of cgroups, and says
# `ok: …` or `FAILED: …` for each promise.
export PATH=/bin:/usr/bin:/sbin CTRBUILD_ROOT=/var/lib/ctrbuild HOME=/root
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /tmp; mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /dev/shm; chmod 1777 /tmp
ip link set lo up
layout=$(sed 's/.*layout=\([a-z0-9]*\).*/\1/' /proc/cmdline)
v1() {
    mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
    for c in memory pids cpu,cpuacct cpuset blkio devices; do
        mkdir -p /sys/fs/cgroup/$c && mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c || echo "FAILED: mounting $c"
    done
}
case $layout in
    v2) mount -t cgroup2 cgroup2 /sys/fs/cgroup; cg=/sys/fs/cgroup ;;
    v1) v1 ;;
    hybrid) v1; mkdir /sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
esac
check() { what=$1; shift; if "$@" > /tmp/out 2>&1; then echo "ok: $what"; else echo "FAILED: $what"; tail -n 12 /tmp/out; fi; }
says() { what=$1; text=$2; if grep -q -- "$text" /tmp/said; then echo "ok: $what"; else echo "FAILED: $what: no \"$text\" in"; tail -n 12 /tmp/said; fi; }
recipe() { mkdir -p /tmp/context; printf '%b' "$1" > /tmp/context/Dockerfile; }
# Last word of a build's own lines goes to /tmp/said.
build() { ctrbuild build --progress=plain --no-cache "$@" /tmp/context > /tmp/said 2>&1; }
# Processes by their arguments.
pids() {
    for p in /proc/[0-9]*; do
        tr '\0' ' ' < $p/cmdline 2>/dev/null | grep -q "$1" && [ ${p#/proc/} != $$ ] && echo ${p#/proc/} && found=1
    done
    [ -n "$found" ] && unset found
}
left() { find /sys/fs/cgroup -type d -name 'ctrbuild-*'; }
no_cgroup() { n=0; while [ -n "$(left)" ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done; left; [ -z "$(left)" ]; }
mounts() { [ "$(grep -c /var/lib/ctrbuild /proc/mounts)" = 0 ]; }

echo "kernel: $(uname -r), cgroups: $layout, controllers of v2: $(cat $cg/cgroup.controllers 2>/dev/null)"
check "an image can be imported" ctrbuild import /base.tar base
recipe 'FROM base\nRUN echo one > /one && rm /etc/gone && ls /one\nRUN --mount=type=bind,from=base,source=/etc,target=/m --mount=type=cache,target=/c \
  ls /m > /m.txt; cat /proc/self/cgroup; ls /sys/fs/cgroup\nCOPY --from=base /etc /etc2\n'
check "steps run" build
recipe 'FROM base\nRUN mknod /m c 1 1; head -c 1 /m && echo OPENED; echo x > /dev/null && echo null works\n'
build; says "devices: harmless ones work" "null works"
check "devices: others don't open" sh -c '! grep -q "[0-9] OPENED" /tmp/said'

# What a step hogs is outside of the page cache, so that the limit is what ends it.
recipe 'FROM base\nRUN head -c 60000000 /dev/zero | tail -c 59999999 > /dev/null\n'
if [ "$layout" = none ]; then
    check "without limits all goes" build
    build --memory 24m; says "a limit that can't be enforced is an error" "can't enforce the limit"
else
    check "memory is there without a limit" build
    check "memory: the step ends" sh -c '! ctrbuild build --no-cache --memory 24m /tmp/context > /tmp/said 2>&1'
    says "memory: it is named" "out of memory"
    recipe 'FROM base\nRUN i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all started\n'
    check "tasks: the step ends" sh -c '! ctrbuild build --progress=plain --no-cache --pids-limit 20 /tmp/context > /tmp/said 2>&1'
    says "tasks: it is named" "fork"
    recipe 'FROM base\nRUN s=$(cut -d. -f1 /proc/uptime); i=0; while [ $i -lt 3 ]; do n=0; while [ $n -lt 5000 ]; do n=$((n+1)); done; \
      [ $(($(cut -d. -f1 /proc/uptime) - s)) -lt 4 ] || i=3; done; cat /proc/self/stat | cut -d" " -f14,15 | sed "s/^/ticks /"; \
      cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu*/cpu.cfs_quota_us /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.stat 2>/dev/null; true\n'
    check "processors: the step runs" build --cpus 0.25 --memory 64m --pids-limit 50
    if [ $layout = v2 ]; then
        says "processors: the limit is set" "25000 100000"; says "tasks: the limit is set" " 50$"; says "memory: the limit is set" 67108864
        says "processors: it was throttled" "nr_throttled [1-9]"
    else
        says "processors: the limit is set" " 25000$"
    fi
    ctrbuild build --progress=json --no-cache --cpus 0.25 --memory 64m /tmp/context > /tmp/said 2>&1
    says "processor time is told" '"cpu":[0-9]*.*[1-9]'; says "peak memory is told" '"peakMemory":[1-9]'
    grep '"used"' /tmp/said
fi
check "no cgroup is left" no_cgroup

# The builder and its runner at once: the next builder cleans up.
recipe 'FROM base\nRUN sleep 4711\n'
ctrbuild build --progress=plain --no-cache $([ $layout = none ] || echo --memory 64m --pids-limit 40) /tmp/context > /dev/null 2>&1 &
n=0; while ! pids 'sleep 4711' > /dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
kill -9 $(pids ctrbuild)
recipe 'FROM base\nRUN true\n'
check "a build after a kill" build
gone() { ! pids 'sleep 4711'; }
check "no process is left" gone
check "no cgroup is left after a kill" no_cgroup
check "no mount is left" mounts

# Copies where overlay is not wanted.
recipe 'FROM base\nRUN rm -r /etc/sub && mkdir /etc/sub && echo x > /etc/sub/y && mv /etc/f /etc/g\n'
same() {
    for way in overlay copy; do
        CTRBUILD_SNAPSHOTTER=$way ctrbuild build -q --no-cache --build-arg SOURCE_DATE_EPOCH=1700000000 \
            -o type=image,rewrite-timestamp=true /tmp/context > /tmp/$way || return 1
    done
    cmp /tmp/overlay /tmp/copy
}
check "overlays and copies make one image" same

# An ordinary user: with ids, without a delegated cgroup, then with one.
mkdir -p /home/user; chown 1000:1000 /home/user
as_user() { CTRBUILD_ROOT=/home/user/store HOME=/home/user /usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups -- "$@" < /dev/null; }
recipe 'FROM base\nRUN id -u; chown 33:44 /etc/f; echo user > /u\nUSER 1000\nRUN id -u | sed "s/^/as /"\n'; chmod -R a+rX /tmp/context
as_user ctrbuild import /base.tar base > /tmp/said 2>&1; says "user: import" sha256
as_user ctrbuild build --progress=plain --no-cache /tmp/context > /tmp/said 2>&1; says "user: steps run" "as 1000"
as_user ctrbuild build --snapshotter copy --progress=plain --no-cache /tmp/context > /tmp/said 2>&1; says "user: on copies too" "as 1000"
recipe 'FROM base\nRUN head -c 60000000 /dev/zero | tail -c 59999999 > /dev/null\n'
if [ $layout = v2 ]; then
    as_user ctrbuild build --memory 24m /tmp/context > /tmp/said 2>&1; says "user: no limits without delegation" "can't enforce the limit"
    for c in memory pids cpu; do echo +$c > $cg/cgroup.subtree_control; done
    # As systemd delegates: a folder of the user's, in which the user's processes live one level down.
    mkdir -p $cg/user/session; chown 1000 $cg/user $cg/user/session $cg/user/cgroup.procs $cg/user/cgroup.subtree_control \
        $cg/user/session/cgroup.procs $cg/user/session/cgroup.subtree_control
    for c in memory pids cpu; do echo +$c > $cg/user/cgroup.subtree_control; done
    delegated() { (echo 0 > $cg/user/session/cgroup.procs; as_user "$@"); }
    delegated ctrbuild build --memory 24m /tmp/context > /tmp/said 2>&1; says "user: memory with delegation" "out of memory"
    check "user: no cgroup is left" no_cgroup
fi
echo "end of the guest"
sync
poweroff -f
