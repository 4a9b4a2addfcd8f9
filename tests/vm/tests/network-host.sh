#!/bin/sh
# as: root
# A modular kernel with systemd: what a start loads, what it leaves as it was,
# and host rules by cgroup.
. /payload/check
. /payload/world

# Whatever ran before: an ordinary user's start must load them itself.
modules="nft_tproxy nf_tables veth"
modprobe --remove --quiet nft_tproxy nft_reject_inet nft_reject_ipv4 nf_tables veth
for module in $modules; do
    check "$module is not loaded" test ! -e "/sys/module/$module"
done
check "doctor: TPROXY is a module" contains "$(as_guest $cofferdam doctor)" "TPROXY is a module"
check "and doctor loads nothing" test ! -e /sys/module/nft_tproxy
sysctls >/tmp/before
check "a start of the user" as_guest $cofferdam run --allow www.example.org:8080 -- true
for module in $modules; do
    check "$module is loaded" test -e "/sys/module/$module"
done
sysctls >/tmp/after
# A module brings sysctls of its own; those that were there keep their values.
check "sysctls that were there are as they were" is "$(comm -23 /tmp/before /tmp/after)" ""

world_up
sysctls >/tmp/before
host_state >/tmp/state-before
sandboxes_up
each "no rules" "served served refused" "fetch $lan 7000; fetch www 8080; fetch $lan 7777"
host_state >/tmp/state-during
check "the host is the same while sandboxes run" diff /tmp/state-before /tmp/state-during
sysctls >/tmp/during
check "what listens is what was asked for" is \
    "$(ss -Hltn | awk '{ print $4 }' | grep -e :80.0 -e :9000 | sort | xargs)" "0.0.0.0:8070 0.0.0.0:8080 0.0.0.0:8090"
arrives "no rules" $lan $lan $lan
check "so are its sysctls" is "$(comm -23 /tmp/before /tmp/during)" ""
check "posture" contains "$(as_guest $cofferdam posture guest | tail -n 1)" "as planned"

# T11: rules by cgroup cut one sandbox and not the other.
for who in guest root; do
    group=$(sed -n 's/^0::\///p' "/proc/$(edge_of $who)/cgroup")
    echo "edge of $who: $group"
    level=$(echo "$group" | tr / '\n' | wc -l)
    nft "add table inet cut; add chain inet cut out { type filter hook output priority 0; }"
    check "a rule by the cgroup of $who" nft add rule inet cut out oifname wan0 meta l4proto tcp \
        socket cgroupv2 level "$level" "\"$group\"" reject with tcp reset
    for other in guest root; do
        expected=served
        [ $other != $who ] || expected=refused
        check "a job of $other is $expected" is \
            "$(as_$other $cofferdam exec $other -- bash -c "${fetch}fetch $lan 7000")" $expected
    done
    nft delete table inet cut
done

# T29: without supervisor or edge there is no network, and the host is as before.
kill -9 "$(edge_of guest)"
check "kill -9 of the edge ends the sandbox" until_true sh -c \
    "! systemd-run --quiet --wait --pipe --collect --property=User=guest --property=PAMName=login $cofferdam exec guest -- true 2>/dev/null"
edge_of root >/dev/null
kill -9 "$supervisor"
check "kill -9 of root's supervisor ends the sandbox" until_true sh -c "! $cofferdam exec root -- true 2>/dev/null"
arrives "without supervisor or edge" $lan refused refused
sandboxes_down 2>/dev/null
host_state >/tmp/state-after
check "the host is the same after kill -9" diff /tmp/state-before /tmp/state-after
sysctls >/tmp/after
check "and its sysctls" is "$(comm -23 /tmp/before /tmp/after)" ""
check "no process of ours is left" until_true sh -c '! pgrep cofferdam >/dev/null'
world_down
finish
