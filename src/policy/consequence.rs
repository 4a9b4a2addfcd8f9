//! [pure] What a single grant hands to a job: a system call, a capability, a control that may be weaker.

use crate::linux::capability::Capability;
use crate::policy::Control;
use crate::policy::words::Word;

/// Calls whose grant needs a sentence of its own: names, and what follows "allows the job to".
const CALLS: &[(&[&str], &str)] = &[
    (
        &["bpf"],
        "load programs into the kernel's verifier, a frequent source of kernel exploits",
    ),
    (
        &["io_uring_setup", "io_uring_enter", "io_uring_register"],
        "do system calls through io_uring, where no filter sees them",
    ),
    (
        &["userfaultfd"],
        "hold the kernel in the middle of a copy, which makes races easy to win",
    ),
    (
        &["perf_event_open"],
        "measure other processes and reach a large kernel subsystem",
    ),
    (
        &[
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_getfd",
        ],
        "read and change any other process of the sandbox",
    ),
    (
        &["unshare", "setns", "clone3"],
        "make or enter namespaces, in which kernel code that asks for capabilities can be reached",
    ),
    (
        &[
            "mount",
            "umount2",
            "pivot_root",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
        ],
        "use the mount interfaces of the kernel",
    ),
    (
        &["keyctl", "add_key", "request_key"],
        "use keyrings, which no namespace separates completely",
    ),
    (
        &["open_by_handle_at", "name_to_handle_at"],
        "open files by handle, past the directories that hide them",
    ),
    (
        &[
            "init_module",
            "finit_module",
            "delete_module",
            "kexec_load",
            "kexec_file_load",
            "reboot",
        ],
        "ask for kernel code to be replaced, should it ever hold the capability",
    ),
];

/// What a grant of the call `name` allows the job to do.
pub fn of_call(name: &str) -> String {
    let known = CALLS.iter().find(|(names, _)| names.contains(&name));
    match known {
        Some((_, allows)) => format!("the job to {allows}"),
        None => format!("the job to reach the kernel's code of {name}"),
    }
}

/// What a grant of `capability`, by name, allows the job to do over its own user namespace.
pub fn of_capability(name: &str) -> String {
    let allows = match Capability::from_name(name) {
        Some(Capability::SYS_ADMIN) => "mount, and reach most kernel code that asks for privilege",
        Some(Capability::NET_ADMIN) => {
            "reach the kernel's network configuration, a frequent source of exploits"
        }
        Some(Capability::NET_RAW) => "make packets of any kind",
        Some(Capability::SYS_PTRACE) => "read and change any process of the sandbox",
        Some(Capability::MKNOD) => "reach the kernel's code for device nodes",
        Some(Capability::DAC_OVERRIDE | Capability::DAC_READ_SEARCH) => {
            "pass over the modes of files whose owner is one of its ids"
        }
        Some(Capability::KILL) => "signal any process of the sandbox",
        Some(Capability::SETUID | Capability::SETGID) => "take on any of its ids",
        Some(Capability::CHOWN | Capability::FOWNER | Capability::FSETID) => {
            "change owners and modes of files whose owner is one of its ids"
        }
        Some(_) | None => "reach kernel code that asks for this capability",
    };
    format!("the job to {allows}")
}

/// What it allows that the control of this name may be weaker.
pub fn of_control(name: &str) -> String {
    match Control::from_word(name) {
        Ok(Control::Cgroup) => {
            "a start without a memory limit and with weaker cpu and process limits"
        }
        Ok(Control::Landlock) => "a start without rights that only a newer Landlock can take away",
        Ok(Control::Groups) => "the job to keep the caller's supplementary groups",
        Ok(Control::Disk) => "the job to fill the disk between two looks at its size",
        Err(_) => "a start with a weaker control",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_calls_say_why() {
        assert!(of_call("io_uring_setup").contains("no filter sees them"));
        assert_eq!(
            of_call("flock"),
            "the job to reach the kernel's code of flock"
        );
        assert!(of_capability("SYS_ADMIN").contains("mount"));
    }

    #[test]
    fn each_call_stands_once() {
        let mut names: Vec<&str> = CALLS
            .iter()
            .flat_map(|(names, _)| names.iter().copied())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
