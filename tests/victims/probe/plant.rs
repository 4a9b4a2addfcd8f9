//! What must exist outside for the probes to look for: run by the tests, never by a job.

use crate::raw::{at_mut, call, descriptor, text};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::ExitCode;

/// Lays everything out, prints the options for the probes as one JSON array,
/// waits until stdin ends, and takes everything away again.
pub fn plant(outside: &str, workspace: &str) -> ExitCode {
    match lay_out(outside, workspace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe plant: {error}");
            ExitCode::FAILURE
        }
    }
}

fn lay_out(outside: &str, workspace: &str) -> std::io::Result<()> {
    let tag = format!("probe-{}", std::process::id());
    let outside_dir = Path::new(outside);
    std::fs::create_dir_all(outside_dir)?;
    std::fs::write(outside_dir.join("secret"), "a secret of the host\n")?;
    let socket = UnixListener::bind(outside_dir.join("socket"))?;

    let workspace_dir = Path::new(workspace);
    std::fs::create_dir_all(workspace_dir.join(".git/hooks"))?;
    std::fs::write(
        workspace_dir.join(".git/config"),
        "[core]\n\tbare = false\n",
    )?;
    let agent = UnixListener::bind(workspace_dir.join("agent.sock"))?;

    let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&tag)?)?;
    let port = TcpListener::bind("127.0.0.1:0")?;
    let key = 0x0c0f_0000 | (std::process::id() & 0xffff) as i32;
    let segment = system(call(
        libc::SYS_shmget,
        &[
            key as u64,
            4096,
            (libc::IPC_CREAT | libc::IPC_EXCL | 0o600) as u64,
        ],
    ))?;
    let shared = Path::new("/dev/shm").join(&tag);
    std::fs::write(&shared, "a segment of the host\n")?;
    let queue = queue(&tag)?;

    let options = serde_json::json!([
        "--workspace",
        workspace,
        "--outside",
        outside,
        "--abstract",
        tag,
        "--port",
        port.local_addr()?.port().to_string(),
        "--shm-key",
        key.to_string(),
        "--ipc-name",
        tag,
        "--host-namespaces",
        namespaces().join(","),
    ]);
    let mut out = std::io::stdout();
    writeln!(out, "{options}")?;
    out.flush()?;
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;

    drop((socket, agent, hidden, port, queue));
    std::fs::remove_file(outside_dir.join("socket"))?;
    std::fs::remove_file(outside_dir.join("secret"))?;
    std::fs::remove_file(workspace_dir.join("agent.sock"))?;
    std::fs::remove_file(&shared)?;
    system(call(libc::SYS_mq_unlink, &[text(&tag).as_ptr() as u64]))?;
    system(call(
        libc::SYS_shmctl,
        &[segment as u64, libc::IPC_RMID as u64, 0],
    ))?;
    Ok(())
}

fn system<T>(result: Result<T, i32>) -> std::io::Result<T> {
    result.map_err(std::io::Error::from_raw_os_error)
}

/// A queue of one short message: struct mq_attr is eight longs.
fn queue(name: &str) -> std::io::Result<std::os::fd::OwnedFd> {
    let mut attributes: [u64; 8] = [0, 1, 16, 0, 0, 0, 0, 0];
    let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC) as u64;
    let opened = call(
        libc::SYS_mq_open,
        &[
            text(name).as_ptr() as u64,
            flags,
            0o600,
            at_mut(&mut attributes),
        ],
    );
    system(descriptor(opened))
}

/// The namespaces of this process; all but time, which the job shares.
pub fn namespaces() -> Vec<String> {
    ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
        .iter()
        .filter_map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).ok())
        .map(|link| link.display().to_string())
        .collect()
}
