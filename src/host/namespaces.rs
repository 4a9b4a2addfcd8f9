//! [host] Whether the caller may make a user namespace, from what the kernel's switches say.

use super::facts::UserNamespaces;
use super::probe::ProbeError;
use super::read;

/// Reads the switches in the order in which the kernel would refuse. `doctor` also tries.
pub fn user_namespaces(root: bool) -> Result<UserNamespaces, ProbeError> {
    let limit = read::sysctl("/proc/sys/user/max_user_namespaces")?;
    let clone = read::sysctl("/proc/sys/kernel/unprivileged_userns_clone")?;
    let restricted = read::sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")?;
    Ok(match (limit, clone, restricted) {
        (None, _, _) => UserNamespaces::Missing,
        (Some(0), _, _) => UserNamespaces::LimitZero,
        (Some(_), Some(0), _) if !root => UserNamespaces::SysctlOff,
        (Some(_), _, Some(1)) if !root && confined_without_leave(&label()?) => {
            UserNamespaces::AppArmor
        }
        _ => UserNamespaces::Available,
    })
}

/// Our AppArmor label, empty where AppArmor is not the one that says.
fn label() -> Result<String, ProbeError> {
    match read::text("/proc/self/attr/apparmor/current")? {
        Some(label) => Ok(label),
        None => Ok(read::text("/proc/self/attr/current")?.unwrap_or_default()),
    }
}

/// Ubuntu's restriction binds processes that no profile names, and those it has already moved to
/// `unprivileged_userns`. Any other profile decides itself: ours reads `cofferdam (unconfined)`.
fn confined_without_leave(label: &str) -> bool {
    let profile = label
        .split(" (")
        .next()
        .unwrap_or(label)
        .trim_end_matches(['\0', '\n']);
    matches!(profile, "unconfined" | "unprivileged_userns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_profile_that_names_us_lifts_the_restriction() {
        assert!(confined_without_leave("unconfined\n"));
        assert!(confined_without_leave("unprivileged_userns (enforce)\n"));
        assert!(!confined_without_leave("cofferdam (unconfined)\n"));
    }

    #[test]
    fn the_build_host_lets_us() {
        assert_eq!(user_namespaces(false).unwrap(), UserNamespaces::Available);
    }
}
