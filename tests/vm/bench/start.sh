#!/bin/sh
# as: user
# A start against crun and bubblewrap, each sandbox with a cgroup v2 of its own:
# a scope of the user manager, then below a delegated directory; then without.
cost=/payload/target/deps/cost
rounds=30

for cgroup in none systemd; do
    echo "cgroup: $cgroup"
    $cost --programs /payload/target --only start --rounds $rounds --cgroup $cgroup || exit 1
done
# A user moves processes only within what was delegated, so this one is there.
exec systemd-run --quiet --user --scope --property=Delegate=yes sh -c '
    here=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
    mkdir "$here/bench" && echo $$ >"$here/bench/cgroup.procs" || exit 1
    echo "+cpu +memory +pids" >"$here/cgroup.subtree_control" || exit 1
    echo "cgroup: a delegated directory"
    exec "$@" --cgroup "$here"' sh $cost --programs /payload/target --only start --rounds $rounds
