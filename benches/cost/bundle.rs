//! An OCI bundle that does what a Plan does, as far as crun can say it.
//!
//! Equal: the seven namespaces, id maps, every mount, file and symlink, masked
//! and read-only paths, limits, no capabilities, no_new_privs, the allowed
//! system calls. Not equal, all in crun's favour: one user namespace instead of
//! two, no Landlock, no tests of system-call arguments, no log, no events, no
//! supervision. A cgroup with the same limits where one is measured.

use crate::host::{Cgroups, Host};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the bundle and gives its directory.
pub fn write(host: &Host, name: &str, plan: &Value, filtered: bool) -> PathBuf {
    let bundle = host.make(name, 0o755);
    let root = host.make(format!("{name}/rootfs"), 0o755);
    let steps: Vec<&Value> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["op"])
        .collect();
    let kinds = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"];
    let namespaces = kinds.map(|kind| json!({"type": kind}));
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "noNewPrivileges": true, "cwd": "/workspace",
            "user": {"uid": 1, "gid": 1}, "args": plan["exec"]["argv"], "env": ["PATH=/usr/bin:/bin"],
            "capabilities": {"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []},
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "cofferdam",
        "mounts": [],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": paths(&steps, "mask"),
            "readonlyPaths": paths(&steps, "read_only"),
        },
    });
    let mut mounts = Vec::new();
    for op in &steps {
        fill(&root, op);
        mounts.extend(mount(op, &plan["sources"]));
        if let Some(user) = op.get("outer_user") {
            config["linux"]["uidMappings"] = mappings(&user["uids"]);
            config["linux"]["gidMappings"] = mappings(&user["gids"]);
        }
        if let Some(step) = op.get("cgroup") {
            config["linux"]["resources"] = resources(&step["limits"]);
            config["linux"]["cgroupsPath"] = cgroup(&host.cgroups).into();
        }
        if let (Some(step), true) = (op.get("seccomp"), filtered) {
            config["linux"]["seccomp"] = seccomp(&step["filter"]);
        }
    }
    config["mounts"] = mounts.into();
    host.give_all(&root);
    host.write(&format!("{name}/config.json"), &config.to_string());
    bundle
}

fn paths(steps: &[&Value], op: &str) -> Vec<Value> {
    steps
        .iter()
        .filter_map(|step| step.get(op))
        .map(|step| step["path"].clone())
        .collect()
}

/// Directories, files and links that the Plan puts on its tmpfs.
fn fill(root: &Path, op: &Value) {
    let place = |step: &Value| {
        let path = root.join(step["path"].as_str().unwrap().trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    if let Some(step) = op.get("file") {
        fs::write(place(step), step["content"].as_str().unwrap()).unwrap();
    } else if let Some(step) = op.get("symlink").filter(|step| !in_dev(step)) {
        std::os::unix::fs::symlink(step["target"].as_str().unwrap(), place(step)).unwrap();
    } else if let Some(step) = op.get("directory") {
        fs::create_dir_all(place(step)).unwrap();
    }
}

/// crun fills /dev itself.
fn in_dev(step: &Value) -> bool {
    step["path"].as_str().unwrap().starts_with("/dev/")
}

fn mount(op: &Value, sources: &Value) -> Option<Value> {
    let (kind, step) = op.as_object()?.iter().next()?;
    let path = &step["path"];
    match kind.as_str() {
        "bind" if !in_dev(step) => {
            let source = &sources[usize::try_from(step["source"].as_u64()?).ok()?]["path"];
            Some(
                json!({"destination": path, "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid", "nodev"]}),
            )
        }
        "tmpfs" => {
            let options = [
                "nosuid".into(),
                "nodev".into(),
                format!("size={}", step["size"]),
                format!("mode={:o}", step["mode"].as_u64()?),
            ];
            Some(
                json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}),
            )
        }
        "devpts" => Some(
            json!({"destination": path, "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}),
        ),
        "proc" => Some(json!({"destination": path, "type": "proc", "source": "proc"})),
        "sysfs" => Some(
            json!({"destination": path, "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        ),
        _ => None,
    }
}

/// The limits of the Plan; no swap, as there.
fn resources(limits: &Value) -> Value {
    let mut resources = json!({});
    if let Some(bytes) = limits["memory"].as_u64() {
        resources["memory"] = json!({"limit": bytes, "swap": bytes});
    }
    if let Some(thousandths) = limits["milli_cpus"].as_u64() {
        resources["cpu"] = json!({"quota": thousandths * 100, "period": 100_000});
    }
    if let Some(tasks) = limits["pids"].as_u64() {
        resources["pids"] = json!({"limit": tasks});
    }
    resources
}

/// As crun wants it: slice:prefix:name for systemd, else a path in the tree.
fn cgroup(cgroups: &Cgroups) -> String {
    match cgroups {
        Cgroups::Directory(directory) => {
            let path = directory.to_string_lossy();
            let tree = path.strip_prefix("/sys/fs/cgroup").unwrap_or(&path);
            format!("{tree}/crun-bench")
        }
        Cgroups::None | Cgroups::Systemd => "app.slice:crun:bench".into(),
    }
}

fn mappings(extents: &Value) -> Value {
    extents.as_array().unwrap().iter()
        .map(|extent| json!({"containerID": extent["inside"], "hostID": extent["outside"], "size": extent["count"]}))
        .collect()
}

/// Calls that the Plan's filter lets through, for some arguments at least.
fn seccomp(filter: &Value) -> Value {
    let groups = filter["groups"].as_array().unwrap().iter();
    let always = groups
        .filter(|group| group["then"] == "allow")
        .flat_map(|group| group["calls"].as_array().unwrap());
    let sometimes = filter["conditional"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["call"]);
    let names: Vec<&Value> = always.chain(sometimes).collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    })
}
