//! [pure] One sandbox: what is asked for, the plan for it, and the processes that carry it out.

pub mod explain;
pub mod fds;
pub mod gateway;
pub mod init;
pub mod launch;
pub mod message;
pub mod plan;
pub mod request;
pub mod stage;
