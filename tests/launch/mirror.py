"""One package of each kind and a git repository, served over TLS.

    python3 mirror.py DIRECTORY ADDRESS CERTIFICATE KEY KIND...

DIRECTORY gets the files; they are called `probe` whatever they are for. A KIND is
git, apt, pip, npm or cargo.
"""

import hashlib
import http.server
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
import zipfile

WHEEL = "probe-1.0-py3-none-any.whl"


def archive(files):
    """A .tar.gz."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


def write(path, content):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def git():
    write("source/file", "served\n")
    by = ["-c", "user.name=probe", "-c", "user.email=probe@example.org"]
    for arguments in (
        ["init", "-q", "source"],
        ["-C", "source", "add", "file"],
        ["-C", "source", *by, "commit", "-q", "-m", "one"],
        ["clone", "-q", "--bare", "source", "probe.git"],
        ["-C", "probe.git", "update-server-info"],
    ):
        subprocess.run(["git", *arguments], check=True)


def apt():
    control = "Package: probe\nVersion: 1.0\nArchitecture: all\n"
    control += "Maintainer: probe <probe@example.org>\nDescription: probe\n"
    write("tree/DEBIAN/control", control)
    os.makedirs("apt")
    build = ["dpkg-deb", "--root-owner-group", "--build", "tree", "apt/probe.deb"]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    with open("apt/probe.deb", "rb") as file:
        package = file.read()
    digest = hashlib.sha256(package).hexdigest()
    place = f"Filename: ./probe.deb\nSize: {len(package)}\nSHA256: {digest}\n"
    write("apt/Packages", control + place)


def pip():
    about = "Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n"
    kind = "Wheel-Version: 1.0\nGenerator: probe\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    os.makedirs("wheels")
    with zipfile.ZipFile(f"wheels/{WHEEL}", "w") as wheel:
        wheel.writestr("probe.py", "print('served')\n")
        wheel.writestr("probe-1.0.dist-info/METADATA", about)
        wheel.writestr("probe-1.0.dist-info/WHEEL", kind)
        wheel.writestr("probe-1.0.dist-info/RECORD", "")
    write("simple/probe/index.html", f'<a href="/wheels/{WHEEL}">{WHEEL}</a>\n')


def npm():
    package = {"name": "probe", "version": "1.0.0"}
    tar = archive({"package/package.json": json.dumps(package)})
    write("npm-probe.tgz", tar)
    digest = hashlib.sha1(tar).hexdigest()
    package["dist"] = {"tarball": "https://www.example.org/npm-probe.tgz", "shasum": digest}
    everything = {"name": "probe", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": package}}
    write("npm/probe", json.dumps(everything))


def cargo():
    manifest = '[package]\nname = "probe"\nversion = "1.0.0"\nedition = "2021"\n'
    crate = archive({"probe-1.0.0/Cargo.toml": manifest, "probe-1.0.0/src/lib.rs": ""})
    write("crates/probe", crate)
    entry = {"name": "probe", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False}
    entry["cksum"] = hashlib.sha256(crate).hexdigest()
    write("index/pr/ob/probe", json.dumps(entry) + "\n")
    write("index/config.json", '{"dl": "https://www.example.org/crates/{crate}"}')


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


directory, address, certificate, key, *kinds = sys.argv[1:]
os.chdir(directory)
for make in (git, apt, pip, npm, cargo):
    if make.__name__ in kinds:
        make()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server = http.server.ThreadingHTTPServer((address, 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
