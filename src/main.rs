//! [main] Dispatch only.
#![allow(warnings)]
use cofferdam::*;
fn main() {
    let policy = policy::Policy::preset(&std::env::var("P").unwrap_or("untrusted".into())).unwrap();
    let facts = host::probe::probe(&host::probe::ProbeRequest { maskable: linux::paths::MASKABLE, ..Default::default() }).unwrap();
    let request = sandbox::request::Request { name: "smoke".into(), argv: std::env::args().skip(1).collect(), rootfs: None, workspace: None, mounts: vec![], tmpfs: vec![], environment: vec![], workdir: None, user: None, hostname: None, terminal: [false; 3], pid1: false, layers: None, keep: false, slice: None };
    let plan = match sandbox::plan::plan(&policy, &request, &facts) { Ok(p) => p, Err(e) => { for d in e { eprintln!("{d} {:?}", d.help); } std::process::exit(125) } };
    if std::env::var("SHOW").is_ok() { println!("{}", plan.text()); }
    let program = sandbox::launch::Program::find().unwrap();
    use std::os::fd::AsFd;
    let stdio = [std::io::stdin().as_fd().try_clone_to_owned().unwrap(), std::io::stdout().as_fd().try_clone_to_owned().unwrap(), std::io::stderr().as_fd().try_clone_to_owned().unwrap()];
    let h = facts.subordinate.newuidmap.as_deref().zip(facts.subordinate.newgidmap.as_deref());
    match sandbox::launch::launch(sandbox::launch::Launch { plan: &plan, program: &program, stdio, cgroup: &facts.cgroup, helpers: h }) {
        Ok(r) => { let e = sys::process::reap(&r.init.pidfd); drop(r.init_socket); drop(r.gateway_socket); let g = sys::process::reap(&r.gateway.pidfd); eprintln!("init {e:?} gateway {g:?}"); }
        Err(e) => { eprintln!("{e} {:?}", e.help()); std::process::exit(e.exit_code().into()) }
    }
}
