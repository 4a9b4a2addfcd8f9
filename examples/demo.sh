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
# A job never writes what root owns: it gets a copy, or may only read.
workspace=. hostile=.
[ "$(id -u)" != 0 ] || workspace=.:copy hostile=.:ro

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
cat "$key" >/dev/null && echo "(outside, the key can be read)"
printf '$ cofferdam run --workspace %s -- sh -c "cc -o /tmp/attack attack.c && /tmp/attack …"\n' "$hostile"
status=0
"$cofferdam" run --head --name "$name" --workspace "$hostile" -- \
    sh -c 'cc -o /tmp/attack attack.c && exec /tmp/attack "$@"' sh "$HOME" "$PWD" "$key" \
    2>"$directory/messages" || status=$?
cat "$directory/messages"
head=$(sed -n "s/^cofferdam: head $name //p" "$directory/messages")

title '3  Why: the rule, the line that would allow it, and the risk (the first two)'
# Paragraphs: the heading, then one for each refusal.
show explain "$name" >"$directory/explained"
awk 'BEGIN { RS = ""; ORS = "\n\n" } NR <= 3' "$directory/explained"
grep -c '^  risk' "$directory/explained" | sed 's/$/ in all/'

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
