//! [pure] x
pub fn is_read_only(p: &str) -> bool { p == "/proc/sys" || p == "/proc/bus" || p == "/proc/irq" || p=="/proc/fs" }
pub const MASKABLE: &[&str] = &["/proc/kcore","/proc/keys","/proc/timer_list","/proc/sysrq-trigger","/proc/interrupts","/proc/sys","/proc/bus","/proc/irq","/proc/fs","/sys/firmware","/proc/acpi","/proc/scsi","/proc/kallsyms"];
