#!/bin/sh
# as: root
# A host with firewalld: zones, policies for what leaves, and reload.
. /payload/check
. /payload/world

world_up
systemctl start firewalld
check "firewalld runs" is "$(firewall-cmd --state 2>&1)" running
firewall-cmd --quiet --zone=public --change-interface=wan0
host_state >/tmp/before
sandboxes_up
host_state >/tmp/during
check "the rules are the same while sandboxes run" diff /tmp/before /tmp/during
both="fetch $lan 7000; fetch www 8080"
arrives "zone public" refused refused refused
firewall-cmd --quiet --zone=public --add-port=8070/tcp
firewall-cmd --quiet --zone=public --add-port=8080/tcp
arrives "zone public with two ports" $lan $lan refused
firewall-cmd --quiet --zone=trusted --change-interface=wan0
arrives "zone trusted" $lan $lan $lan
firewall-cmd --quiet --zone=drop --change-interface=wan0
arrives "zone drop" hung hung hung
firewall-cmd --quiet --zone=public --change-interface=wan0
each "a zone is about what comes in" "served served" "$both"

# firewalld filters what leaves by a policy from HOST.
firewall-cmd --quiet --permanent --new-policy leaving
firewall-cmd --quiet --permanent --policy leaving --add-ingress-zone HOST
firewall-cmd --quiet --permanent --policy leaving --add-egress-zone ANY
firewall-cmd --quiet --permanent --policy leaving --add-rich-rule \
    "rule family=ipv4 destination address=$lan port port=7000 protocol=tcp reject"

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
check "reload" firewall-cmd --quiet --reload
firewall-cmd --quiet --zone=public --change-interface=wan0
echo two >&4
check "it lives through a reload" until_true said 2
each "the policy rejects one server" "refused served" "$both"
arrives "the ports went with the reload" refused refused refused
firewall-cmd --quiet --zone=drop --change-interface=wan0
echo three >&4
check "it lives in zone drop, which accepts what is established" until_true said 3
each "zone drop is about what comes in" "refused served" "$both"
exec 4>&-
rm /tmp/words
wait $job
check "the job ended well" is $? 0
sandboxes_down
firewall-cmd --quiet --permanent --delete-policy leaving
systemctl stop firewalld
check "nothing is left of its rules" is "$(nft list ruleset | grep -c firewalld)" 0
world_down
finish
