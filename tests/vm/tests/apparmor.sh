#!/bin/sh
# as: root
# Our profile loads and attaches; and whom a profile confines is no less
# confined in a sandbox. Debian 12 has AppArmor 3: it knows neither the rule
# 'userns' nor abi/4.0, so these two lines, and no other, are left out here.
. /payload/check
profiles=/sys/kernel/security/apparmor/profiles

install -m 755 /payload/target/cofferdam /payload/target/cofferdam-init /usr/local/bin/
sed -e '/^abi <abi\/4.0>,$/d' -e '/^  userns,$/d' /payload/packaging/apparmor >/etc/apparmor.d/cofferdam
check "two lines are left out" is \
    "$(($(wc -l </payload/packaging/apparmor) - $(wc -l </etc/apparmor.d/cofferdam)))" 2
check "our profile loads" apparmor_parser --replace /etc/apparmor.d/cofferdam
check "and confines nothing" grep -q '^cofferdam (unconfined)$' $profiles

# A caller's profile: all but reading and writing two names, wherever they are.
cat >/etc/apparmor.d/caller <<'PROFILE'
profile caller flags=(attach_disconnected, mediate_deleted) {
  file, mount, remount, umount, pivot_root, capability, network, signal, ptrace, unix, dbus,
  deny /**/not-to-read rwlk,
  deny /**/not-to-write wlk,
}
PROFILE
check "a caller's profile loads" apparmor_parser --replace /etc/apparmor.d/caller
check "and is enforced" grep -q '^caller (enforce)$' $profiles

as_guest() {
    systemd-run --quiet --wait --pipe --collect --property=User=guest \
        --property=PAMName=login --property=WorkingDirectory=/home/guest/apparmor -- "$@"
}
mkdir -p ~guest/apparmor && cd ~guest/apparmor || exit 1
for name in free not-to-read not-to-write; do
    echo "$name" >$name
done
chown -R guest: .

label='cat /proc/self/attr/current'
try='for name in free not-to-read not-to-write; do
    cat $name >/dev/null 2>&1 && r=r || r=-
    true 2>/dev/null >>$name && w=w || w=-
    echo "$name $r$w"
done'
confined="free rw
not-to-read --
not-to-write r-"

check "our profile attaches to the installed program" is "$(as_guest cofferdam run -- $label)" "cofferdam (unconfined)"
check "and it runs a job" is "$(as_guest cofferdam run --workspace . -- sh -c "$try" | sort -u | wc -l)" 3
check "outside, the caller is confined" is "$(as_guest aa-exec -p caller -- sh -c "$try")" "$confined"
check "inside, its label is the caller's" is \
    "$(as_guest aa-exec -p caller -- /payload/target/cofferdam run -- $label)" "caller (enforce)"
check "inside, the job is confined as the caller" is \
    "$(as_guest aa-exec -p caller -- /payload/target/cofferdam run --workspace . -- sh -c "$try")" "$confined"
as_guest aa-exec -p caller -- /payload/target/cofferdam run --detach --name confined --workspace . -- sleep 300
check "so is what exec runs" is "$(as_guest /payload/target/cofferdam exec confined -- sh -c "$try")" "$confined"
as_guest /payload/target/cofferdam kill confined
check "without a profile, the job is not" contains \
    "$(as_guest /payload/target/cofferdam run --workspace . -- sh -c "$try")" "not-to-read rw"
finish
