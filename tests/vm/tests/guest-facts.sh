#!/bin/sh
# as: user root
# Asserts what the other tests rely on: kernel 6.1, cgroup v2 with delegation,
# the user manager, AppArmor, Landlock, user namespaces, subordinate ids.
. /payload/check

uid=$(id -u)
echo "uid $uid, kernel $(uname -r), cgroup $(cat /proc/self/cgroup)"

check "kernel 6.1" is "$(uname -r | cut -d. -f1-2)" 6.1
check "systemd is pid 1" is "$(cat /proc/1/comm)" systemd
check "cgroup v2 alone" is "$(stat -f -c %T /sys/fs/cgroup)" cgroup2fs
check "user namespaces" unshare --user --map-root-user true
check "no LSM forbids user namespaces" is "$(cat /proc/sys/kernel/unprivileged_userns_clone)" 1

lsm=$(cat /sys/kernel/security/lsm)
echo "lsm $lsm"
check "Landlock and AppArmor are on" has_words "$(echo "$lsm" | tr , ' ')" "landlock apparmor"
check "AppArmor is enabled" is "$(cat /sys/module/apparmor/parameters/enabled)" Y

# landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) is the ABI.
abi=$(python3 -c 'import ctypes; print(ctypes.CDLL(None).syscall(444, None, 0, 1))')
check "Landlock ABI 2" is "$abi" 2

if [ "$uid" != 0 ]; then
    check "XDG_RUNTIME_DIR" is "${XDG_RUNTIME_DIR-unset}" "/run/user/$uid"
    check "the user manager runs" is "$(systemctl --user is-active default.target)" active
    check "subordinate uids" grep -q "^$(id -un):[0-9]*:65536" /etc/subuid
    check "subordinate gids" grep -q "^$(id -un):[0-9]*:65536" /etc/subgid
    check "newuidmap maps them" unshare --user --map-users=auto --map-groups=auto --map-root-user true
    mine=/sys/fs/cgroup/user.slice/user-$uid.slice/user@$uid.service
    controllers=$(cat "$mine/cgroup.controllers")
    echo "delegated: $controllers"
    check "delegated controllers" has_words "$controllers" "cpu memory pids"
    check "io and cpuset are not delegated" is "$(echo "$controllers" | tr ' ' '\n' | grep -c -e '^io$' -e '^cpuset$')" 0
    scope=$(systemd-run --quiet --user --scope --property=Delegate=yes cat /proc/self/cgroup)
    echo "scope: $scope"
    check "a scope by systemd-run --user" test -n "$(echo "$scope" | grep '/run-.*\.scope$')"
    check "the scope belongs to the user" systemd-run --quiet --user --scope --property=Delegate=yes \
        sh -c 'test -w "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cgroup.subtree_control"'
else
    check "newuidmap is setuid or has capabilities" test -u /usr/bin/newuidmap -o -n "$(getcap /usr/bin/newuidmap 2>/dev/null)"
    check "AppArmor can load a profile" apparmor_parser --version
    check "root has CAP_SYS_RESOURCE" test "$((0x$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status) >> 24 & 1))" = 1
fi

finish
