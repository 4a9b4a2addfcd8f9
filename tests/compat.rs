//! What people run, in `untrusted` with a writable workspace, as an ordinary user.
//!
//! Each tool must work, and what it is refused must be what we know of: a
//! refusal that is new here is a tool that will be slower or fail elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::skip;
use support::user::{Account, Directory};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin";

/// A workspace, our programs where the user can reach them, and its records.
struct Bench {
    account: Account,
    programs: Directory,
    workspace: Directory,
}

/// A finished job.
struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    /// The calls that our code refused and recorded, in order, each once.
    refused: Vec<String>,
}

impl Ran {
    #[track_caller]
    fn says(&self, words: &[&str]) -> &Self {
        assert_eq!(self.status, Some(0), "{}", self.text());
        for word in words {
            assert!(self.stdout.contains(word), "no {word:?} in {}", self.text());
        }
        self
    }

    #[track_caller]
    fn was_refused(&self, calls: &[&str]) {
        assert_eq!(self.refused, calls, "{}", self.text());
    }

    fn text(&self) -> String {
        format!("{:?}: {}{}", self.status, self.stdout, self.stderr)
    }
}

impl Bench {
    fn new(name: &str) -> Self {
        let account = Account::ordinary();
        let programs = account.directory(&format!("{name}-programs"));
        for program in ["cofferdam", "cofferdam-init"] {
            // By cp(1), for the reason that `support::probe::install` gives.
            let script = r#"cp --link "$0" "$1" 2>/dev/null || cp "$0" "$1""#;
            let mut copy = Command::new("sh");
            copy.args(["-c", script])
                .arg(support::built(program))
                .arg(programs.0.join(program));
            assert!(copy.status().unwrap().success(), "{copy:?}");
        }
        let workspace = account.directory(name);
        Self {
            account,
            programs,
            workspace,
        }
    }

    fn user(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.account.command(program);
        command
            .env("PATH", PATH)
            .env("XDG_DATA_HOME", self.programs.0.join("records"));
        command.current_dir(&self.workspace.0);
        command
    }

    /// A shell script of the user's, outside.
    #[track_caller]
    fn outside(&self, script: &str) -> String {
        let output = self
            .user("/bin/sh")
            .args(["-euc", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.workspace.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self.give();
    }

    fn give(&self) {
        if rustix::process::getuid().is_root() {
            let owner = format!("{}:{}", self.account.uid, self.account.gid);
            let mut chown = Command::new("chown");
            chown.arg("-R").arg(owner).arg(&self.workspace.0);
            assert!(chown.status().unwrap().success());
        }
    }

    fn cofferdam(&self, args: &[&str]) -> Output {
        self.user(self.programs.0.join("cofferdam"))
            .args(args)
            .output()
            .unwrap()
    }

    /// A shell script of the job's, with options of `run`.
    fn run(&self, options: &[&str], script: &str) -> Ran {
        let name = format!("compat-{}", std::process::id());
        let name = format!(
            "{name}-{}",
            self.workspace.0.file_name().unwrap().to_str().unwrap()
        );
        let head = ["run", "--name", &name];
        let output = self.cofferdam(&[&head[..], options, &["--", "sh", "-euc", script]].concat());
        let log = self.cofferdam(&["events", "--json", &name]);
        assert!(log.status.success(), "{log:?} after {output:?}");
        let mut refused = Vec::new();
        for line in String::from_utf8(log.stdout).unwrap().lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(call) = event["kind"]["refused"]["call"].as_str()
                && !refused.iter().any(|known| known == call)
            {
                refused.push(call.to_owned());
            }
        }
        Ran {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            refused,
        }
    }

    /// In `untrusted` with the workspace writable.
    fn job(&self, script: &str) -> Ran {
        self.run(&["--workspace", "."], script)
    }

    /// Whether the user has a tool; else a named skip.
    fn has(&self, tool: &str) -> bool {
        let found = self
            .user("/bin/sh")
            .args(["-c", "command -v \"$0\"", tool])
            .output()
            .unwrap();
        if !found.status.success() {
            skip(tool, "not installed where the test user can reach it");
        }
        found.status.success()
    }

    fn has_all(&self, tools: &[&str]) -> bool {
        tools.iter().all(|tool| self.has(tool))
    }

    fn policy(&self, name: &str, text: &str) -> PathBuf {
        let path = self.programs.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

const C_FILES: &[(&str, &str)] = &[
    (
        "Makefile",
        "all: sum\nsum: main.o add.o twice.o\n\t$(CC) -o $@ $^ -lm -lpthread\n%.o: %.c sum.h\n\t$(CC) -O2 -c $<\n",
    ),
    ("sum.h", "int add(int, int);\nint twice(int);\n"),
    (
        "add.c",
        "#include \"sum.h\"\nint add(int a, int b) { return a + b; }\n",
    ),
    (
        "twice.c",
        "#include \"sum.h\"\nint twice(int a) { return 2 * a; }\n",
    ),
    (
        "main.c",
        "#include <pthread.h>\n#include <stdio.h>\n#include \"sum.h\"\nstatic void *run(void *to) { *(int *)to = add(2, twice(20)); return 0; }\nint main(void) { int sum; pthread_t t; pthread_create(&t, 0, run, &sum); pthread_join(t, 0); printf(\"sum %d\\n\", sum); }\n",
    ),
];

#[test]
fn gcc_and_make() {
    let bench = Bench::new("make");
    if !bench.has_all(&["gcc", "make"]) {
        return;
    }
    C_FILES
        .iter()
        .for_each(|(path, text)| bench.write(path, text));
    bench
        .job("make -j2 && ./sum && make -q")
        .says(&["sum 42"])
        .was_refused(&[]);
    assert_eq!(
        bench.outside("./sum"),
        "sum 42\n",
        "what was built is there, and the user's"
    );
}

#[test]
fn cmake_and_ninja() {
    let bench = Bench::new("cmake");
    if !bench.has_all(&["cmake", "ninja", "gcc"]) {
        return;
    }
    C_FILES
        .iter()
        .for_each(|(path, text)| bench.write(path, text));
    bench.write(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.10)\nproject(sum C)\nadd_executable(sum main.c add.c twice.c)\nenable_testing()\nadd_test(NAME runs COMMAND sum)\n",
    );
    bench
        .job("cmake -G Ninja -B build . && ninja -C build && cd build && ctest")
        .says(&["100% tests passed"])
        .was_refused(&[]);
}

/// The user's toolchain; or, for root's tests, root's, whose files are linked
/// to where the test user reaches them, since rustup lies in a home directory.
fn rust_toolchain(bench: &Bench) -> Option<Directory> {
    let print = |mut rustc: Command| {
        let output = rustc.args(["--print", "sysroot"]).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let sysroot = print(bench.user("rustc")).or_else(|| print(Command::new("rustc")))?;
    let linked = bench.account.directory("rust");
    for part in ["bin", "lib"] {
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--link"])
            .arg(Path::new(&sysroot).join(part))
            .arg(&linked.0);
        if !copy.status().unwrap().success() {
            return None;
        }
    }
    Some(linked)
}

#[test]
fn cargo() {
    let bench = Bench::new("cargo");
    let Some(rust) = rust_toolchain(&bench) else {
        return skip(
            "cargo",
            "no toolchain that can be linked to where the test user reaches it",
        );
    };
    bench.write(
        "Cargo.toml",
        "[package]\nname = \"sum\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    bench.write(
        "build.rs",
        "fn main() { println!(\"cargo::rustc-env=ANSWER=42\"); }\n",
    );
    bench.write(
        "src/main.rs",
        "fn main() { println!(\"sum {}\", std::thread::spawn(|| env!(\"ANSWER\")).join().unwrap()); }\n#[test] fn runs() { main() }\n",
    );
    let mount = format!("{}=/rust", rust.0.display());
    bench
        .run(
            &["--workspace", ".", "--mount", &mount],
            "PATH=/rust/bin:$PATH; cargo build && target/debug/sum && cargo test && cargo new other",
        )
        .says(&["sum 42", "1 passed"])
        .was_refused(&[]);
}

#[test]
fn go() {
    let bench = Bench::new("go");
    if !bench.has("go") {
        return;
    }
    bench.write("go.mod", "module example.org/sum\n\ngo 1.18\n");
    bench.write(
        "main.go",
        "package main\n\nimport \"os\"\n\nfunc sum(c chan int) { c <- 42 }\n\nfunc main() {\n\tc := make(chan int)\n\tgo sum(c)\n\tif <-c == 42 {\n\t\tos.Stdout.WriteString(\"sum 42\\n\")\n\t}\n}\n",
    );
    bench.write(
        "main_test.go",
        "package main\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tc := make(chan int, 1)\n\tsum(c)\n\tif <-c != 42 {\n\t\tt.Fatal()\n\t}\n}\n",
    );
    bench
        .job("export GOTOOLCHAIN=local GOFLAGS=-mod=mod; go build && ./sum && go test")
        .says(&["sum 42", "PASS"])
        .was_refused(&[]);
}

#[test]
fn node() {
    let bench = Bench::new("node");
    if !bench.has("node") {
        return;
    }
    bench.write(
        "main.js",
        r#"
const { Worker } = require("node:worker_threads");
const { execFileSync, fork } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
if (process.argv[2] === "child") { process.send("from the child"); return; }
new Worker('require("node:worker_threads").parentPort.postMessage(42)', { eval: true })
  .on("message", (sum) => console.log("worker", sum));
console.log("program", execFileSync("echo", ["sum"]).toString().trim());
fork(__filename, ["child"]).on("message", (text) => console.log(text));
const watcher = fs.watch(".", () => { watcher.close(); console.log("watched"); });
fs.copyFileSync(__filename, "copy.js");
const server = net.createServer((peer) => peer.end("tcp works")).listen(0, "localhost", () =>
  net.connect(server.address().port, "localhost").on("data", (data) => { console.log(`${data}`); server.close(); }));
"#,
    );
    bench
        .job("node main.js && node --test")
        .says(&[
            "worker 42",
            "program sum",
            "from the child",
            "watched",
            "tcp works",
        ])
        .was_refused(&[]);
}

#[test]
fn python() {
    let bench = Bench::new("python");
    if !bench.has("python3") {
        return;
    }
    bench.write(
        "test_all.py",
        r#"
import multiprocessing, os, shutil, subprocess, sys, tempfile, threading, unittest, venv

def square(number):
    return number * number

class All(unittest.TestCase):
    def test_subprocess(self):
        self.assertEqual(subprocess.check_output(["echo", "sum"]), b"sum\n")
        self.assertEqual(subprocess.run("exit 3", shell=True).returncode, 3)

    def test_multiprocessing(self):
        for method in ("fork", "spawn", "forkserver"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                self.assertEqual(pool.map(square, range(4)), [0, 1, 4, 9])

    def test_shared_memory(self):
        from multiprocessing.shared_memory import SharedMemory
        memory = SharedMemory(create=True, size=4096)
        memory.buf[0] = 42
        again = SharedMemory(memory.name)
        self.assertEqual(again.buf[0], 42)
        again.close(); memory.close(); memory.unlink()

    def test_venv(self):
        venv.create("environment", with_pip=False, symlinks=True)
        program = "import sys; print(sys.prefix != sys.base_prefix)"
        self.assertEqual(subprocess.check_output(["environment/bin/python", "-c", program]), b"True\n")

    def test_files(self):
        with tempfile.TemporaryDirectory() as directory:
            shutil.copytree("package", directory + "/copy")
            shutil.move(directory + "/copy", "moved")
        os.chmod("moved/__init__.py", 0o600)
        os.utime("moved/__init__.py", (1, 1))
        self.assertEqual(os.stat("moved/__init__.py").st_mtime, 1)

if __name__ == "__main__":
    unittest.main()
"#,
    );
    bench.write("package/__init__.py", "");
    let ran = bench.job("python3 test_all.py 2>&1 && test $(id -u) != 0");
    ran.says(&["Ran 5 tests", "OK"]).was_refused(&[]);
}

#[test]
fn java() {
    let bench = Bench::new("java");
    if !bench.has_all(&["javac", "java"]) {
        return;
    }
    bench.write(
        "Sum.java",
        "import java.util.stream.IntStream;\npublic class Sum {\n  public static void main(String[] args) throws Exception {\n    Thread[] threads = new Thread[8];\n    int[] sums = new int[8];\n    for (int i = 0; i < 8; i++) { int n = i; threads[i] = new Thread(() -> sums[n] = n); threads[i].start(); }\n    for (Thread thread : threads) thread.join();\n    System.out.println(\"sum \" + IntStream.of(sums).sum());\n    System.out.println(\"streams \" + IntStream.range(0, 1000000).parallel().sum());\n    System.out.println(\"exit \" + new ProcessBuilder(\"true\").start().waitFor());\n  }\n}\n",
    );
    bench
        .job("javac Sum.java && java Sum")
        .says(&["sum 28", "exit 0"])
        .was_refused(&[]);
}

const REPOSITORY: &str = "git init --quiet . && git config user.name n && git config user.email n@example.org \
    && echo a >a && git add a && git commit --quiet --message first";

#[test]
fn git_in_a_repository() {
    let bench = Bench::new("git");
    if !bench.has("git") {
        return;
    }
    bench.outside(REPOSITORY);
    let ran = bench.job(
        "test -z \"$(git status --porcelain)\"; echo b >b; git add --all; git commit --quiet --message second
         git switch --quiet --create topic; git commit --quiet --allow-empty --message third
         git switch --quiet -; git merge --quiet topic; git tag v1; git stash list
         git gc --quiet --prune=now; git fsck; git log --oneline; git describe --tags
         git ls-files | tr '\\n' ' '; git diff --exit-code HEAD",
    );
    ran.says(&["first", "second", "third", "v1", "a b "])
        .was_refused(&[]);
    assert_eq!(
        bench.outside("git fsck && git log --format=%s"),
        "third\nsecond\nfirst\n"
    );
    assert_eq!(
        bench.outside("git status --porcelain"),
        "",
        "nothing of ours is left"
    );
}

/// What git and its user run is not the job's to change.
#[test]
fn git_configuration_stays() {
    let bench = Bench::new("git-config");
    if !bench.has("git") {
        return;
    }
    bench.outside(REPOSITORY);
    let before = bench.outside("cat .git/config; find .git -maxdepth 1 | sort");
    let ran = bench.job(
        "! git config user.name other; ! touch .git/hooks/post-checkout; ! mv .git elsewhere
         ! git remote add origin elsewhere; ! git worktree add ../other
         ! mkdir .git/modules 2>/dev/null
         cp -r .git evil; git config --file evil/config core.fsmonitor 'touch OWNED; false'
         ! echo ../evil >.git/commondir; ! rm -f .git/commondir; ! touch .git/config.worktree; ! mv evil .git/commondir",
    );
    ran.says(&[]);
    for words in ["could not write config file", "Device or resource busy"] {
        assert!(ran.stderr.contains(words), "{}", ran.text());
    }
    bench.outside("git status; rm -r evil");
    assert_eq!(
        bench.outside("cat .git/config; find .git -maxdepth 1 | sort"),
        before
    );
    assert_eq!(bench.outside("git status --porcelain"), "");
}

/// Without a repository `.git` is held, so that the job makes none whose
/// configuration the user's git would run; tools see a directory without one.
#[test]
fn git_without_a_repository() {
    let bench = Bench::new("git-none");
    if !bench.has("git") {
        return;
    }
    let ran = bench.job(
        "! git init . 2>init; grep --quiet '\\.git' init
         ! git status 2>status; grep 'not a git repository' status
         git init --quiet below; cd below; git -c user.name=n -c user.email=n@example.org commit --quiet --allow-empty --message nested
         git log --format=%s",
    );
    ran.says(&["not a git repository", "nested"])
        .was_refused(&[]);
    assert_eq!(
        bench.outside("ls --almost-all | tr '\\n' ' '"),
        "below init status "
    );
}

#[test]
fn perl_and_pipelines() {
    let bench = Bench::new("perl");
    if !bench.has("perl") {
        return;
    }
    let ran = bench.job(
        "perl -e 'my $p = fork // die; if (!$p) { exit 7 } waitpid $p, 0; print $? >> 8, qq(\\n); print qx(echo from perl)'
         seq 1000 | sort --reverse --numeric-sort --parallel=2 | head --lines=1 | tee one | sed s/1000/pipe/
         tar --create --file=- one | gzip | gunzip | tar --list --file=-
         mkfifo queue; (echo through >queue &); cat queue
         find . -name one -exec md5sum {} + | cut -c1-32; xargs -n1 -P2 echo <one
         exec 3>&1; (trap 'echo caught >&3' TERM; kill -TERM $$ & wait) || true",
    );
    assert!(
        ran.stdout.starts_with("7\nfrom perl\npipe\none\nthrough\n"),
        "{}",
        ran.text()
    );
    ran.was_refused(&[]);
}

#[test]
fn a_test_suite_with_local_sockets() {
    let bench = Bench::new("sockets");
    if !bench.has("python3") {
        return;
    }
    bench.write(
        "test_sockets.py",
        r#"
import asyncio, http.server, os, socket, socketserver, threading, unittest, urllib.request

class Sockets(unittest.TestCase):
    def pair(self, family, address):
        with socket.socket(family) as server:
            server.bind(address)
            server.listen()
            with socket.socket(family) as client:
                client.connect(server.getsockname())
                with server.accept()[0] as peer:
                    peer.sendall(b"sum")
                    self.assertEqual(client.recv(3), b"sum")

    def test_tcp(self): self.pair(socket.AF_INET, ("localhost", 0))
    def test_tcp6(self): self.pair(socket.AF_INET6, ("::1", 0))
    def test_unix_in_the_workspace(self): self.pair(socket.AF_UNIX, "socket")
    def test_unix_in_tmp(self): self.pair(socket.AF_UNIX, "/tmp/socket")
    def test_unix_abstract(self): self.pair(socket.AF_UNIX, "\0socket")

    def test_udp(self):
        with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as other:
            one.bind(("127.0.0.1", 0))
            other.sendto(b"sum", one.getsockname())
            self.assertEqual(one.recv(3), b"sum")

    def test_descriptors(self):
        one, other = socket.socketpair()
        read, write = os.pipe()
        socket.send_fds(one, [b"x"], [write])
        os.write(socket.recv_fds(other, 1, 1)[1][0], b"sum")
        self.assertEqual(os.read(read, 3), b"sum")

    def test_http(self):
        handler = http.server.SimpleHTTPRequestHandler
        handler.log_message = lambda *arguments: None
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever).start()
            with urllib.request.urlopen(f"http://localhost:{server.server_port}/") as answer:
                self.assertEqual(answer.status, 200)
            server.shutdown()

    def test_asyncio(self):
        async def talk():
            process = await asyncio.create_subprocess_exec("echo", "sum", stdout=-1)
            return (await process.communicate())[0]
        self.assertEqual(asyncio.run(talk()), b"sum\n")

    def test_interfaces(self): self.assertEqual([name for _, name in socket.if_nameindex()], ["lo"])

    def test_outside_is_not_there(self):
        with self.assertRaises(OSError): socket.create_connection(("192.0.2.1", 80), 1)
        with self.assertRaises(OSError): socket.getaddrinfo("example.org", 80)

if __name__ == "__main__":
    unittest.main()
"#,
    );
    bench
        .job("python3 test_sockets.py 2>&1")
        .says(&["Ran 11 tests", "OK"])
        .was_refused(&[]);
}

const DEBUGGING: &str = "schema = 1\nname = \"debugging\"\nextends = \"untrusted\"\n[syscalls]\nallow = [\n  { name = \"ptrace\", why = \"debuggers\" },\n  { name = \"process_vm_readv\", why = \"strace reads strings\" },\n]\n";

#[test]
fn strace_needs_a_grant() {
    let bench = Bench::new("strace");
    if !bench.has("strace") {
        return;
    }
    let refused = bench.job("strace -o trace true && exit 1; true");
    refused.says(&[]).was_refused(&["ptrace"]);
    let policy = bench.policy("debugging.toml", DEBUGGING);
    let options = ["--policy", policy.to_str().unwrap(), "--workspace", "."];
    bench
        .run(
            &options,
            "strace -f -e trace=execve,openat -o trace sh -c true; grep -c execve trace; cat trace",
        )
        .says(&["execve(\"/usr/bin/sh\"", "+++ exited with 0 +++"])
        .was_refused(&[]);
}

#[test]
fn gdb_needs_a_grant() {
    let bench = Bench::new("gdb");
    if !bench.has_all(&["gdb", "gcc"]) {
        return;
    }
    C_FILES
        .iter()
        .for_each(|(path, text)| bench.write(path, text));
    bench.outside("gcc -g -o sum main.c add.c twice.c");
    let debug =
        "gdb -nx -batch -ex 'break add' -ex run -ex backtrace -ex continue ./sum 2>&1 || true";
    bench
        .job(debug)
        .says(&["ptrace: Operation not permitted"])
        .was_refused(&["ptrace"]);
    let policy = bench.policy("debugging.toml", DEBUGGING);
    let options = ["--policy", policy.to_str().unwrap(), "--workspace", "."];
    bench
        .run(&options, debug)
        .says(&["in run (to=", "sum 42"])
        .was_refused(&[]);
}

const STATIC: &str =
    "schema = 1\nname = \"static\"\nextends = \"strict\"\n[degrade]\nallow = [\"cgroup\"]\n";

/// A static computation: reads the workspace, writes /tmp.
#[test]
fn strict_compiles_and_computes() {
    let bench = Bench::new("strict");
    if !bench.has_all(&["gcc", "python3"]) {
        return;
    }
    C_FILES
        .iter()
        .for_each(|(path, text)| bench.write(path, text));
    bench.write(
        "sum.py",
        "import json, threading\nprint(json.dumps({'sum': sum(range(10))}))\n",
    );
    // An ordinary user's limits are weaker on many hosts; that is not the matter here.
    let policy = bench.policy("static.toml", STATIC);
    let options = ["--policy", policy.to_str().unwrap(), "--workspace", ".:ro"];
    let ran = bench.run(
        &options,
        "gcc -pipe -o /tmp/sum main.c add.c twice.c; /tmp/sum; python3 sum.py; seq 3 | sort -r | tr '\\n' ' '; ! touch new",
    );
    ran.says(&["sum 42", "{\"sum\": 45}", "3 2 1 "])
        .was_refused(&[]);
}
