//! [host] What a sandbox with a network needs: TPROXY in the kernel, and whether there is IPv6.

use super::facts::{Network, Tproxy};
use super::probe::ProbeError;
use super::{read, visible};

/// What is there; nothing is started and no module is loaded.
pub fn network(release: &str) -> Result<Network, ProbeError> {
    Ok(Network {
        tproxy: tproxy(&format!("/lib/modules/{release}"))?,
        // Without the module, or with ipv6.disable=1, there is no such table.
        ipv6: visible::exists("/proc/net/if_inet6")?,
    })
}

/// Modules that are built in have a line in modules.builtin, kbuild.rst; a kernel
/// without a directory of modules says nothing that an ordinary user can read fast.
fn tproxy(modules: &str) -> Result<Tproxy, ProbeError> {
    if visible::exists("/sys/module/nft_tproxy")? {
        return Ok(Tproxy::Present);
    }
    if visible::exists(&format!("{modules}/kernel/net/netfilter/nft_tproxy.ko*"))? {
        return Ok(Tproxy::Loadable);
    }
    Ok(match read::text(&format!("{modules}/modules.builtin"))? {
        Some(text) if text.contains("/nft_tproxy.ko") => Tproxy::Present,
        Some(_) => Tproxy::Missing,
        None => Tproxy::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_directory_of_modules_says_what_there_is() {
        let root = std::env::temp_dir().join(format!("cofferdam-modules-{}", std::process::id()));
        let netfilter = root.join("kernel/net/netfilter");
        fs::create_dir_all(&netfilter).unwrap();
        let says = || tproxy(root.to_str().unwrap()).unwrap();
        let mut said = vec![says()];
        fs::write(root.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        said.push(says());
        let line = "kernel/net/netfilter/nft_tproxy.ko\n";
        fs::write(root.join("modules.builtin"), line).unwrap();
        said.push(says());
        fs::write(netfilter.join("nft_tproxy.ko.xz"), "").unwrap();
        said.push(says());
        fs::remove_dir_all(&root).unwrap();
        use Tproxy::*;
        let loaded = std::path::Path::new("/sys/module/nft_tproxy").exists();
        let expected = [Unknown, Missing, Present, Loadable];
        assert_eq!(
            said,
            expected.map(|each| if loaded { Present } else { each })
        );
    }
}
