#!/bin/sh
# as: user root
# Limits by cgroup v2: through the user manager for a user, by a directory of
# our own for root and for a user with COFFERDAM_CGROUP.
. /payload/check
uid=$(id -u)
cgroups=/sys/fs/cgroup

ours() {
    find $cgroups -type d -name '*cofferdam-*' ! -name 'cofferdam-outside' 2>/dev/null | head -n 1
}

none_left() {
    [ -z "$(ours)" ]
}

# The directory whose limits bind the job: the one of its init.
of_job() {
    echo "$cgroups$(sed -n 's/^0:://p' "/proc/$1/cgroup")"
}

init_of() {
    $cofferdam inspect "$1" | tr -d ' \n' | sed -n 's/.*"init":{[^}]*"pid":\([0-9]*\).*/\1/p'
}

limits() {
    name=$1
    check "$name: starts with limits" $cofferdam run -d --name "$name" --memory 64M --cpus 0.5 --pids 40 -- sleep 300
    init=$(init_of "$name")
    check "$name: inspect names init" test -n "$init"
    group=$(of_job "$init")
    echo "cgroup of the job: $group"
    check "$name: memory.max" is "$(cat "$group/memory.max")" 67108864
    check "$name: no swap" is "$(cat "$group/memory.swap.max")" 0
    check "$name: memory.oom.group" is "$(cat "$group/memory.oom.group")" 1
    check "$name: cpu.max" is "$(cat "$group/cpu.max")" "50000 100000"
    check "$name: pids.max" is "$(cat "$group/pids.max")" 40
    check "$name: every process of the job is in it" is "$(wc -l <"$group/cgroup.procs")" 2
    check "$name: posture agrees with the plan" contains "$($cofferdam posture "$name" | tail -n 1)" "as planned"
    check "$name: the job cannot write it" is "$($cofferdam exec "$name" -- sh -c 'find /sys/fs/cgroup -writable 2>/dev/null | wc -l')" 0
    $cofferdam kill "$name"
    $cofferdam rm "$name" 2>/dev/null
    check "$name: the cgroup is removed" until_true none_left

    output=$($cofferdam run --name "$name-hog" --memory 64M -- python3 -c 'bytearray(200 << 20)' 2>&1)
    check "$name: a memory hog is killed" is "$?" 137
    check "$name: and run says why" contains "$output" "the memory limit ended the job"
    check "$name: and an event" contains "$($cofferdam events "$name-hog")" "out of memory"
    check "$name: what fits is not killed" $cofferdam run --memory 64M -- python3 -c 'bytearray(20 << 20)'

    forks='n=0; while [ $n -lt 60 ]; do sleep 5 & n=$((n + 1)); done'
    output=$($cofferdam run --pids 20 -- sh -c "$forks" 2>&1)
    check "$name: the 20th process is refused" contains "$output" "Cannot fork"

    spin='import time; a, b = time.monotonic(), time.process_time()
while time.monotonic() < a + 2: pass
print(int(100 * (time.process_time() - b) / (time.monotonic() - a)))'
    share=$($cofferdam run --cpus 0.25 -- python3 -c "$spin")
    echo "share of a cpu under --cpus 0.25: $share %"
    check "$name: a quarter of a cpu" test "$share" -le 40

    check "$name: started again" $cofferdam run -d --name "$name-crash" --memory 64M -- sleep 300
    init=$(init_of "$name-crash")
    supervisor=$($cofferdam inspect "$name-crash" | tr -d ' \n' | sed -n 's/.*"supervisor":{[^}]*"pid":\([0-9]*\).*/\1/p')
    check "$name: kill -9 of the supervisor" kill -9 "$supervisor"
    check "$name: ends the job" until_true sh -c "! kill -0 $init 2>/dev/null"
    $cofferdam ps >/dev/null
    $cofferdam prune >/dev/null
    check "$name: and the next command removes the cgroup" until_true none_left
    check "$name: nothing is left in ps" is "$($cofferdam ps --json | tr -d ' \n')" "[]"
}

check "doctor: cgroup v2 is usable" contains "$($cofferdam doctor)" "ok        cgroup"
limits "own-$uid"
if [ "$uid" != 0 ]; then
    check "no scope is left" is "$(systemctl --user list-units --all --no-legend 'cofferdam-*')" ""
    # A directory that somebody delegated, the process in a child of it.
    delegated=$(systemd-run --quiet --user --scope --property=Delegate=yes sh -c '
        here=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
        mkdir "$here/mine" && echo $$ >"$here/mine/cgroup.procs"
        COFFERDAM_CGROUP=$here '"$cofferdam"' run --memory 64M --pids 30 -- sleep 5 &
        for _ in $(seq 50); do
            sleep 0.2
            group=$(find "$here" -name memory.max -exec grep -l 67108864 {} +)
            [ -z "$group" ] || break
        done
        cat "$group" "$(dirname "$group")/pids.max"
        wait
        find "$here" -mindepth 1 -type d' 2>&1)
    echo "$delegated"
    check "a delegated directory: limits are set" contains "$(echo "$delegated" | tr '\n' ' ')" "67108864 30"
    check "a delegated directory: removed after" is "$(echo "$delegated" | grep -c /mine)" "$(echo "$delegated" | grep -c ^/)"
fi
finish
