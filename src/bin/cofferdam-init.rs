//! [main] Dispatch only: the small static program that becomes stage, gateway and init.

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(role), None) if role == "stage" => cofferdam::sandbox::stage::main(),
        _ => cofferdam::sys::process::exit_now(125),
    }
}
