#!/bin/sh
# as: user root
# What differs here from the build hosts: kernel 6.1 (no user xattrs on tmpfs,
# so layers lie on disk), Landlock ABI 2, AppArmor, loadable modules.
. /payload/check
mkdir -p "$HOME/job" && cd "$HOME/job" || exit 1

# P5: values of sysctls, modules, routes. What counts or is random by nature is
# left out; entries that a module adds would show.
host() {
    cut -d' ' -f1 /proc/modules | sort
    grep --recursive --no-messages --text . /proc/sys | grep --text --invert-match \
        -e random/ -e fs/quota/ -e /nr -e -nr -e -state -e ns_last_pid -e file-nr -e inode -e aio-nr | sort
    ip route
}

report=$($cofferdam doctor)
echo "$report"
for control in kernel user_namespaces subordinate_ids seccomp landlock cgroup overlay proc; do
    check "doctor: $control" contains "$report" "ok        $control"
done
check "doctor: Landlock" contains "$report" "ABI 2"
check "doctor: the layers' place" contains "$report" "lie on disk"
check "doctor changes nothing" is "$($cofferdam doctor)" "$report"

host >../before
check "true" $cofferdam run -- true
check "false" sh -c "! $cofferdam run -- false"

echo original >file
mkdir -p directory/below
copy='set -e; echo new >file; mkdir made; mv file made; rm -r directory; mkdir directory; rmdir directory
mv made renamed; cat renamed/file; ln -s x y; rm y; touch -d @1 z; chmod 600 z; stat -c "%Y %a" z'
output=$($cofferdam run --workspace .:copy -- sh -c "$copy" 2>&1)
check "a copied workspace on disk: renames and removals" contains "$output" "new
1 600"
check "a copied workspace is unchanged" is "$(cat file) $(ls -d directory/below)" "original directory/below"
layers=${XDG_DATA_HOME:-$HOME/.local/share}/cofferdam/layers
[ "$(id -u)" != 0 ] || layers=/var/lib/cofferdam/layers
check "no layer is left" is "$(ls "$layers" 2>/dev/null)" ""

# A rootfs of hard links and copies would be large: /usr is enough of one.
mkdir -p ../rootfs/usr/bin ../rootfs/etc ../rootfs/tmp ../rootfs/var/tmp ../rootfs/proc ../rootfs/dev ../rootfs/sys
ln -sfn usr/bin ../rootfs/bin
for program in dash cat mkdir mv rm rmdir ls id chown stat; do
    cp "/usr/bin/$program" ../rootfs/usr/bin/
    for library in $(ldd "/usr/bin/$program" | grep -o '/lib[^ ]*'); do
        mkdir -p "../rootfs$(dirname "$library")" && cp -L "$library" "../rootfs$library"
    done
done
ln -sfn dash ../rootfs/usr/bin/sh
echo image >../rootfs/etc/release
# With a writable workspace the caller is root inside, and owns the rootfs.
script='set -e; id -u; cat /etc/release; echo changed >/etc/release; mv /etc/release /usr/release; mkdir /opt
mv /usr/bin/ls /opt/; rm /usr/bin/cat; rmdir /var/tmp 2>/dev/null || true; chown 5:5 /opt/ls; stat -c "%u %g" /opt/ls'
output=$($cofferdam run --workspace . --rootfs "$HOME/rootfs" -- sh -c "$script" 2>&1)
check "--rootfs with layers on disk" contains "$(echo "$output" | tr '\n' ' ')" "0 image 5 5"
check "--rootfs is never written" is "$(cat ../rootfs/etc/release) $(ls ../rootfs/usr/bin/cat)" "image ../rootfs/usr/bin/cat"

check "detach" $cofferdam run --detach --name long -- sleep 300
check "exec" is "$($cofferdam exec long -- echo inside)" inside
check "posture" contains "$($cofferdam posture long | tail -n 1)" "as planned"
check "stop" $cofferdam stop long
$cofferdam rm long 2>/dev/null
host >../after
check "modules, sysctls and routes of the host are as before" diff ../before ../after
check "a confined process is no less confined by AppArmor" is \
    "$($cofferdam run -- cat /proc/self/attr/current)" "$(cat /proc/self/attr/current)"
finish
