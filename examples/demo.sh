#!/usr/bin/env bash
# A real build and a hostile job, both confined; then what was refused and why.
#
#   examples/demo.sh PATH-OF-COFFERDAM
#
# Works in a directory of its own below /var/tmp (a sandbox has its own /tmp)
# and removes it at the end. Exits 0 only when every attack was refused.
set -euo pipefail

cofferdam=$(readlink -f "${1:?usage: examples/demo.sh PATH-OF-COFFERDAM}")
here=$(dirname "$(readlink -f "$0")")
name=demo-$$
# A job never writes what root owns: it works on a copy that is thrown away.
workspace=.
[ "$(id -u)" != 0 ] || workspace=.:copy

directory=$(mktemp -d /var/tmp/cofferdam-demo.XXXXXX)
quietly() { "$cofferdam" "$@" >/dev/null 2>&1 || true; }
clean_up() {
    quietly rm --force "$name"
    quietly rm --force "$name-idle"
    rm -rf "$directory"
}
trap clean_up EXIT

if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
    bold=$'\e[1m' plain=$'\e[0m'
else
    bold='' plain=''
fi
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
# Prints a command the way one would type it, then runs it.
show() {
    printf '$ cofferdam %s\n' "$*"
    "$cofferdam" "$@" 2>&1
}

mkdir "$directory/project"
cd "$directory/project"
git init -q .
cat >hello.c <<'C'
#include <stdio.h>
int main(void) { puts("hello from a program that was built in a sandbox"); return 0; }
C
printf 'hello: hello.c\n\t$(CC) -O2 -o $@ $<\n\t./$@\n' >Makefile
cp "$here/attack.c" .
echo 'not for the job' >"$directory/key"

title '1  A build works as it does outside'
show run --workspace "$workspace" -- make

title '2  A hostile job gets nowhere'
key=$directory/key
cat "$key" >/dev/null && echo "(outside, $key can be read)"
printf '$ cofferdam run --workspace %s -- sh -c "cc -o attack attack.c && ./attack …"\n' "$workspace"
status=0
"$cofferdam" run --head --name "$name" --workspace "$workspace" -- \
    sh -c 'cc -o attack attack.c && exec ./attack "$@"' sh "$HOME" "$PWD" "$key" \
    2>"$directory/messages" || status=$?
cat "$directory/messages"
head=$(sed -n "s/^cofferdam: head $name //p" "$directory/messages")

title '3  What was refused and recorded, and which line of policy says so'
show explain "$name"

title '4  What the kernel alone refuses is computed from the plan'
show explain "$name" --why /etc/shadow

title '5  What the kernel says of a running sandbox, next to its plan'
quietly run --detach --name "$name-idle" -- sleep 60
posture=0
show posture "$name-idle" || posture=$?

title '6  Whoever kept the head can tell whether the record was changed'
show verify "$name" --head "$head"

if [ "$status" != 0 ] || [ "$posture" != 0 ]; then
    title "FAILED: the hostile job ended with $status, posture with $posture"
    exit 1
fi
title 'Every attack was refused.'
