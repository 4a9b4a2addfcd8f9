#!/bin/sh
# as: root
# A host with ufw: T04 and T21, and its rules for what leaves.
. /payload/check
. /payload/world

world_up
ufw --force reset >/dev/null
for policy in "deny incoming" "reject outgoing"; do
    ufw default $policy >/dev/null
done
ufw allow out to $lan port 53 >/dev/null
check "ufw is on" contains "$(ufw --force enable)" active
host_state >/tmp/before
sandboxes_up
host_state >/tmp/during
check "the rules are the same while sandboxes run" diff /tmp/before /tmp/during
arrives "incoming is denied by default" hung hung hung
ufw allow 8070/tcp >/dev/null
ufw allow 8080/tcp >/dev/null
ufw deny 8090/tcp >/dev/null
arrives "two ports are allowed" $lan $lan hung
ufw allow from 10.9.0.3 to any port 8080 proto tcp >/dev/null
for rule in "allow 8080/tcp" "deny 8090/tcp"; do
    ufw delete $rule >/dev/null
done
ufw reject 8090/tcp >/dev/null
arrives "one is allowed to another host, one rejected" $lan hung refused
ufw delete reject 8090/tcp >/dev/null
ufw allow 8090/tcp >/dev/null
check "reload" contains "$(ufw reload)" reloaded
arrives "after a reload" $lan hung $lan
both="fetch $lan 7000; fetch www 8080"
each "outgoing is rejected by default" "refused refused" "$both"
ufw allow out to $public port 8080 proto tcp >/dev/null
each "with an allow for the public server" "refused served" "$both"
ufw default allow outgoing >/dev/null
ufw insert 1 reject out to $lan port 7000 proto tcp >/dev/null
each "outgoing is allowed, one server is rejected" "refused served" "$both"
ufw --force delete 1 >/dev/null
ufw insert 1 deny out to $lan port 7000 proto tcp >/dev/null
each "a denied server does not answer" "hung served" "fetch $lan 7000 3; fetch www 8080"
ufw --force delete 1 >/dev/null

# A connection that is open while rules go and come.
mkfifo /tmp/words
talk="exec 3<>/dev/tcp/$lan/7001; while read -r word; do echo \$word >&3; read -r said <&3; echo \$said; done"
$cofferdam run --allow $lan/32:7001 -- bash -c "$talk" </tmp/words >/tmp/said &
job=$!
exec 4>/tmp/words
said() {
    [ "$(grep -c served /tmp/said)" = "$1" ]
}
echo one >&4
check "a connection is open" until_true said 1
check "reload" contains "$(ufw reload)" reloaded
echo two >&4
check "it lives through a reload" until_true said 2
ufw default reject outgoing >/dev/null
echo three >&4
check "and through a new default, as ufw accepts what is established" until_true said 3
each "while a new one is refused" "refused served" "$both"
exec 4>&-
rm /tmp/words
wait $job
check "the job ended well" is $? 0
ufw reload >/dev/null
each "after a reload" "refused served" "$both"
arrives "to the end" $lan hung $lan
sandboxes_down
ufw --force disable >/dev/null
world_down
finish
