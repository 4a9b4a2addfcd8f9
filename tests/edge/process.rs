//! The process itself: what it has, and how it ends.

use super::*;

#[test]
fn it_holds_only_its_descriptors_and_ends_with_the_last_word_about_each_connection() {
    inside(|| {
        let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, LIMITS);
        let pid = world.edge.child.pid;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line), "{line} not in {status}");
        }
        let server = world.listen(SERVER, 7000);
        let mut client = world.dial(SERVER, 7000);
        let (mut far, _) = server.accept().unwrap();
        client.write_all(b"four").unwrap();
        far.read_exact(&mut [0; 4]).unwrap();
        world.edge.finish();
        let allowed = world.edge.next().unwrap();
        let Some(Record::Allowed(id, ..)) = allowed else {
            panic!("{allowed:?}")
        };
        assert_eq!(world.edge.next().unwrap(), Some(Record::Ended(id, 4, 0)));
        assert_eq!(world.edge.next().unwrap(), None);
        let ended: OwnedFd = world.edge.child.pidfd.try_clone().unwrap();
        assert_eq!(cofferdam::sys::process::reap(&ended), Ok((true, 0)));
    });
}

#[test]
fn it_has_ids_and_mounts_of_its_own_an_empty_root_and_the_hosts_network() {
    inside(|| {
        let world = build(Vec::new(), 7000, LIMITS);
        let its = |file: &str| format!("/proc/{}/{file}", world.edge.child.pid);
        let link = |path: String| std::fs::read_link(path).unwrap();
        for (kind, shared) in [("user", false), ("mnt", false), ("net", true)] {
            let same = link(its(&format!("ns/{kind}"))) == link(format!("/proc/self/ns/{kind}"));
            assert_eq!(same, shared, "{kind}");
        }
        let mounts = std::fs::read_to_string(its("mountinfo")).unwrap();
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        assert!(mounts.contains(" ro,nosuid,nodev,noexec"), "{mounts}");
        assert_eq!(std::fs::read_dir(its("root")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(its("cwd")).unwrap().count(), 0);
        let map = std::fs::read_to_string(its("uid_map")).unwrap();
        assert_eq!(map, "", "no id of the host");
    });
}
