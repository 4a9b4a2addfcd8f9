//! [host] Looks at every host object a request names and pins it by inode; decides nothing.

use crate::cli::args::{SandboxArgs, WorkspaceArg};
use crate::cli::context::Context;
use crate::cli::problem::Problem;
use crate::policy::forbidden::{ForbiddenRoot, refusal};
use crate::policy::text::env_matches;
use crate::policy::{Access, Policy};
use crate::sandbox::plan::Placeholder;
use crate::sandbox::request::{HostObject, Mount, Protected, Request, Workspace};
use crate::source::diagnostic::Diagnostic;
use crate::source::origin::Origin;
use crate::supervise::placeholders;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The request for a sandbox under a policy.
///
/// # Errors
/// Everything that is missing, is a symlink, or must not be given away.
pub fn request(
    args: &SandboxArgs,
    name: String,
    policy: &Policy,
    context: &Context,
    forbidden: &[ForbiddenRoot],
    terminal: [bool; 3],
) -> Result<Request, Problem> {
    let rootfs = args
        .rootfs
        .as_deref()
        .map(|path| directory(path, "--rootfs"))
        .transpose()?;
    let workspace = args
        .workspace
        .as_ref()
        .map(|typed| {
            workspace(
                typed,
                policy,
                forbidden,
                context.facts.privileged,
                args.keep,
            )
        })
        .transpose()?;
    let mut mounts = Vec::new();
    for grant in &policy.filesystem.mounts {
        let object = object(&grant.source, &format!("mount {}", grant.source))?;
        let sockets = if object.directory {
            sockets(&object.path)?
        } else {
            Vec::new()
        };
        mounts.push(Mount {
            object,
            target: grant.target.clone(),
            writable: grant.access == Access::Rw,
            sockets,
            origin: grant.origin.clone(),
        });
    }
    let masked = masked(
        policy,
        context,
        rootfs.as_ref(),
        workspace.as_ref(),
        &mounts,
    )?;
    Ok(Request {
        masked,
        layers: context
            .places
            .layers
            .join(&name)
            .to_str()
            .map(str::to_owned),
        name,
        argv: args.command.clone(),
        rootfs,
        workspace,
        mounts,
        environment: passed(policy),
        workdir: args.workdir.clone(),
        user: args.user,
        hostname: args.hostname.clone(),
        terminal,
        pid1: args.pid1,
        keep: args.keep,
    })
}

/// Which of the policy's masked paths exist inside, and whether they are directories.
fn masked(
    policy: &Policy,
    context: &Context,
    rootfs: Option<&HostObject>,
    workspace: Option<&Workspace>,
    mounts: &[Mount],
) -> Result<BTreeMap<String, bool>, Diagnostic> {
    let mut shown: Vec<(&str, &str)> = mounts
        .iter()
        .map(|mount| (mount.target.as_str(), mount.object.path.as_str()))
        .chain(workspace.map(|workspace| (&*workspace.inside, &*workspace.object.path)))
        .collect();
    // The longest place inside that holds a path is the one that shows it.
    shown.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.len()));
    shown.push(("/proc", "/proc"));
    shown.extend(context.facts.sys.iter().map(|path| (&**path, &**path)));
    match rootfs {
        Some(rootfs) => shown.push(("", &rootfs.path)),
        None => {
            let programs = context.facts.programs.iter().map(|entry| &*entry.path);
            let etc = context.facts.etc.iter().map(|entry| &*entry.path);
            shown.extend(programs.chain(etc).map(|path| (path, path)));
        }
    }
    let mut found = BTreeMap::new();
    for path in &policy.filesystem.masked {
        let place = shown.iter().find_map(|(inside, host)| {
            let rest = path.value.strip_prefix(inside)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{host}{rest}"))
        });
        let Some(place) = place else { continue };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match openat2(
            CWD,
            place.as_str(),
            flags,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS,
        ) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).map_err(|errno| {
                    Diagnostic::error(format!("filesystem.masked: {place}: {errno}"))
                })?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                found.insert(path.value.clone(), kind == FileType::Directory);
            }
            // Nothing that could be masked; the plan says so.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => {
                return Err(Diagnostic::error(format!(
                    "filesystem.masked: {place} ({}): {errno}",
                    path.origin
                ))
                .with_help("what the caller cannot look at cannot be masked either"));
            }
        }
    }
    Ok(found)
}

/// The caller's variables that the policy passes. One that is no UTF-8 is not passed.
fn passed(policy: &Policy) -> Vec<(String, String)> {
    let pass = &policy.environment.pass;
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| pass.iter().any(|pattern| env_matches(&pattern.value, name)))
        .collect()
}

fn open(path: &str, flags: OFlags, what: &str) -> Result<OwnedFd, Diagnostic> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map_err(|errno| {
        match (errno, std::fs::canonicalize(path)) {
            (Errno::LOOP, real) => {
                let meant = real.map_or(String::new(), |real| format!(": {}", real.display()));
                Diagnostic::error(format!("{what}: {path} goes through a symlink"))
                    .with_help(format!("name what is meant{meant}"))
            }
            (Errno::NOENT, _) => Diagnostic::error(format!("{what}: {path} does not exist")),
            (Errno::NOTDIR, _) => Diagnostic::error(format!("{what}: {path} is not a directory")),
            _ => Diagnostic::error(format!("{what}: {path}: {errno}")),
        }
    })
}

/// `path` as it is now: absolute, free of symlinks, pinned by inode.
fn object(path: &str, what: &str) -> Result<HostObject, Diagnostic> {
    let fd = open(path, OFlags::empty(), what)?;
    let stat = rustix::fs::fstat(&fd)
        .map_err(|errno| Diagnostic::error(format!("{what}: {path}: {errno}")))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Err(
            Diagnostic::error(format!("{what}: {path} is neither a directory nor a file"))
                .with_help(
                    "sockets and devices are not mounted; name a directory or a regular file",
                ),
        );
    }
    Ok(HostObject {
        path: plain(path, what)?,
        device: stat.st_dev,
        inode: stat.st_ino,
        directory: kind == FileType::Directory,
        uid: stat.st_uid,
        gid: stat.st_gid,
    })
}

/// A path that was opened without following any symlink, absolute and without
/// `.` and `..`: with no symlink on it, `..` is the name before it taken away.
fn plain(path: &str, what: &str) -> Result<String, Diagnostic> {
    let refuse = |cause: &dyn std::fmt::Display| {
        Diagnostic::error(format!("{what}: {path}: {cause}"))
            .with_help("name it by its plain absolute path")
    };
    let absolute = std::path::absolute(path).map_err(|error| refuse(&error))?;
    let mut plain = PathBuf::from("/");
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
        .into_os_string()
        .into_string()
        .map_err(|_| refuse(&"the current directory is no UTF-8"))
}

/// The source of a `--mount`, which policies want without `..`. Symlinks are
/// refused here as they are later.
///
/// # Errors
/// What is not there, or lies behind a symlink.
pub fn mount_source(typed: &str) -> Result<String, Diagnostic> {
    if !typed.split('/').any(|name| name == "..") {
        return Ok(typed.to_owned());
    }
    open(typed, OFlags::empty(), "--mount")?;
    plain(typed, "--mount")
}

fn directory(path: &str, what: &str) -> Result<HostObject, Diagnostic> {
    let object = object(path, what)?;
    if object.directory {
        Ok(object)
    } else {
        Err(Diagnostic::error(format!(
            "{what}: {path} is not a directory"
        )))
    }
}

fn workspace(
    typed: &WorkspaceArg,
    policy: &Policy,
    forbidden: &[ForbiddenRoot],
    privileged: bool,
    keep: bool,
) -> Result<Workspace, Problem> {
    // `.` is what the kernel says it is, not what the shell's PWD remembers.
    let path = if Path::new(&typed.directory).is_absolute() {
        typed.directory.clone()
    } else {
        let here = rustix::process::getcwd(Vec::new()).map_err(|errno| {
            Diagnostic::error(format!("--workspace: current directory: {errno}"))
        })?;
        let joined = Path::new(&*here.to_string_lossy()).join(&typed.directory);
        joined.to_string_lossy().into_owned()
    };
    let object = directory(&path, "--workspace")?;
    let access = access(typed, &object, privileged)?;
    if let Some(reason) = refusal(&object.path, access, forbidden) {
        return Err(
            Diagnostic::error(format!("--workspace {}: {reason}", object.path))
                .with_help("use a directory that holds the project alone, or :ro or :copy")
                .into(),
        );
    }
    let inside = typed.inside.clone().unwrap_or_else(|| object.path.clone());
    for taken in [
        "/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64",
    ] {
        let below = inside == taken || inside.starts_with(&format!("{taken}/"));
        if below || inside == "/" {
            return Err(Diagnostic::error(format!(
                "--workspace: {inside} inside is Cofferdam's own"
            ))
            .with_help("give it another place: -w DIR=/workspace")
            .into());
        }
    }
    let stays = access == Access::Rw || (access == Access::Copy && keep);
    let protected = if stays {
        protected(&object, policy)?
    } else {
        Vec::new()
    };
    let mut sockets = sockets(&object.path)?;
    sockets.retain(|socket| !is_placeholder(&object, policy, socket));
    Ok(Workspace {
        object,
        inside,
        access,
        origin: Origin::Flag {
            name: "--workspace".to_owned(),
        },
        protected,
        sockets,
    })
}

/// Another sandbox's placeholder, or one that is gone by now: mode 0444 lets
/// nobody connect to it, and it may vanish before it could be masked.
fn is_placeholder(workspace: &HostObject, policy: &Policy, socket: &str) -> bool {
    let held = |path: &str| path == socket || path.starts_with(&format!("{socket}/"));
    if !policy
        .workspace
        .protected
        .iter()
        .any(|path| held(&path.value))
    {
        return false;
    }
    let (above, name) = socket.rsplit_once('/').unwrap_or((".", socket));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = open(&workspace.path, OFlags::DIRECTORY, "--workspace").and_then(|top| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&top, above, flags, Mode::empty(), resolve)
            .map_err(|errno| Diagnostic::error(errno.to_string()))
    });
    let Ok(parent) = parent else { return false };
    match placeholders::is_one(&parent, name, &Placeholder::holding(socket)) {
        Ok(is_one) => is_one,
        Err(errno) => errno == Errno::NOENT,
    }
}

/// No job ever has the id of the host's root, so what root owns is copied.
fn access(
    typed: &WorkspaceArg,
    object: &HostObject,
    privileged: bool,
) -> Result<Access, Diagnostic> {
    if !privileged || typed.access != Access::Rw || object.uid != 0 {
        return Ok(typed.access);
    }
    if typed.explicit {
        return Err(Diagnostic::error(format!(
            "--workspace {}: root owns it, and no job runs as root",
            object.path
        ))
        .with_help("use :copy, or give the directory to an ordinary user: chown -R USER"));
    }
    crate::cli::output::note(&format!(
        "cofferdam: root owns {}, so the job writes to a copy; --keep keeps it",
        object.path
    ));
    Ok(Access::Copy)
}

/// What each protected path is today. A symlink on the way would let the job
/// choose what is protected instead.
fn protected(workspace: &HostObject, policy: &Policy) -> Result<Vec<Protected>, Diagnostic> {
    policy
        .workspace
        .protected
        .iter()
        .map(|path| look_at(workspace, &path.value, &path.origin))
        .collect()
}

fn look_at(workspace: &HostObject, path: &str, origin: &Origin) -> Result<Protected, Diagnostic> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let mut here = open(&workspace.path, OFlags::DIRECTORY, "--workspace")?;
    let (mut existing, mut is_directory) = (0, true);
    for (depth, name) in names.iter().enumerate() {
        let placeholder = Placeholder::holding(&names[..=depth].join("/"));
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let refuse = |cause: &str| {
            Diagnostic::error(format!("protected path {path} ({origin}): {name} {cause}"))
                .with_help(
                    "replace it by what it points to, or remove the path from workspace.protected",
                )
        };
        match openat(&here, *name, flags, Mode::empty()) {
            // Another sandbox's, or one that was left: as good as missing.
            Ok(_) if placeholders::is_one(&here, name, &placeholder) == Ok(true) => break,
            Ok(next) => {
                let stat = rustix::fs::fstat(&next).map_err(|errno| refuse(&errno.to_string()))?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::Symlink {
                    return Err(refuse("is a symlink"));
                }
                is_directory = kind == FileType::Directory;
                existing += 1;
                here = next;
                if !is_directory {
                    break;
                }
            }
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(refuse(&errno.to_string())),
        }
    }
    // A file on the way, as the .git of a worktree, is itself what is protected.
    let path = if is_directory {
        names.join("/")
    } else {
        names[..existing].join("/")
    };
    Ok(Protected {
        path,
        existing,
        directory: is_directory,
        origin: origin.clone(),
    })
}

/// Sockets below a directory, relative: whoever connects to one speaks to a
/// process of the host. The tree is only listed, never entered through symlinks.
fn sockets(path: &str) -> Result<Vec<String>, Diagnostic> {
    let fail = |errno: Errno| Diagnostic::error(format!("looking for sockets in {path}: {errno}"));
    let mut found = Vec::new();
    let mut waiting = vec![String::new()];
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(CWD, path, flags, Mode::empty()).map_err(fail)?;
    while let Some(relative) = waiting.pop() {
        let name = if relative.is_empty() {
            "."
        } else {
            relative.as_str()
        };
        let directory = match openat(&top, name, flags, Mode::empty()) {
            Ok(directory) => directory,
            // What the caller cannot list, the job's one id of the caller cannot enter either.
            Err(Errno::ACCESS | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(fail(errno)),
        };
        for entry in Dir::read_from(&directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type();
            if !matches!(
                kind,
                FileType::Directory | FileType::Socket | FileType::Unknown
            ) {
                continue;
            }
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(name) = name.to_str() else {
                if kind == FileType::Socket {
                    return Err(Diagnostic::error(format!(
                        "a socket in {path} has a name that is no UTF-8"
                    ))
                    .with_help("remove it: it could not be masked"));
                }
                waiting_bytes(&relative)?;
                continue;
            };
            let path = if relative.is_empty() {
                name.to_owned()
            } else {
                format!("{relative}/{name}")
            };
            match kind {
                FileType::Directory => waiting.push(path),
                FileType::Socket => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A directory whose name is no UTF-8 could hold sockets that cannot be named in a plan.
fn waiting_bytes(relative: &str) -> Result<(), Diagnostic> {
    Err(Diagnostic::error(format!(
        "a directory below {relative:?} has a name that is no UTF-8"
    ))
    .with_help("rename it: sockets in it could not be masked"))
}
