# Clients that fetch from the mirror; prints the name of each and its exit code.
# Set before: CERTIFICATE, KEY, HOST_KEY, LOGIN, REPOSITORY, CLIENTS.
export HOME=/tmp/home
ca=/tmp/ca.pem
mkdir "$HOME" && cd "$HOME"
printf %s "$CERTIFICATE" >$ca
(umask 077 && printf %s "$KEY" >/tmp/key)
echo "www.example.org $HOST_KEY" >/tmp/known

git_https() {
    git -c http.sslCAInfo=$ca clone -q https://www.example.org/probe.git https &&
        grep served https/file
}

git_ssh() {
    ssh="ssh -i /tmp/key -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes"
    git -c core.sshCommand="$ssh -o UserKnownHostsFile=/tmp/known" \
        clone -q "ssh://$LOGIN@www.example.org$REPOSITORY" ssh && grep served ssh/file
}

apt() {
    mkdir -p apt/state/lists/partial apt/cache/archives/partial apt/conf apt/preferences && cd apt
    : >status
    echo 'deb [trusted=yes] https://www.example.org/apt ./' >sources
    options=(
        -o Dir::State="$PWD/state" -o Dir::State::status="$PWD/status" -o Dir::Cache="$PWD/cache"
        -o Dir::Etc::sourcelist="$PWD/sources" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::main=/dev/null -o Dir::Etc::parts="$PWD/conf"
        -o Dir::Etc::preferencesparts="$PWD/preferences"
        -o Acquire::https::CAInfo=$ca -o Acquire::Languages=none -o APT::Sandbox::User=
    )
    apt-get "${options[@]}" update && apt-get "${options[@]}" download probe &&
        dpkg-deb --info probe_1.0_all.deb
}

pip() {
    python3 -m pip --isolated --disable-pip-version-check install -q --no-cache-dir --no-deps \
        --index-url https://www.example.org/simple --cert $ca --target pip probe &&
        PYTHONPATH=pip python3 -m probe | grep served
}

npm() {
    mkdir npm && cd npm && echo '{}' >package.json &&
        command npm install --registry https://www.example.org/npm/ --cafile $ca --cache "$HOME/cache" \
            --no-audit --no-fund --no-update-notifier probe && grep 1.0.0 node_modules/probe/package.json
}

cargo() {
    mkdir -p cargo/src && cd cargo && : >src/lib.rs
    cat >Cargo.toml <<'END'
[package]
name = "uses"
version = "1.0.0"
edition = "2021"
[dependencies]
probe = { version = "1", registry = "mirror" }
END
    export CARGO_HOME=$HOME/cargo-home CARGO_HTTP_CAINFO=$ca
    export CARGO_REGISTRIES_MIRROR_INDEX=sparse+https://www.example.org/index/
    /opt/cargo vendor -q && grep 1.0.0 vendor/probe/Cargo.toml
}

iperf3() {
    command iperf3 -c www.example.org -n 1M
}

for client in $CLIENTS; do
    ("$client") >/tmp/out 2>&1 </dev/null
    code=$?
    [ $code = 0 ] || sed "s/^/$client: /" /tmp/out >&2
    echo "$client $code"
done
