//! Who is using the program: recorded with acts on dead letters, and shown beside leases.

use std::process::Command;

/// `user@host`.
pub(crate) fn this_user() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME"));
    format!("{}@{}", user.unwrap_or_else(|| "unknown".to_owned()), this_host())
}

/// The name of this machine; `localhost` where nothing says it.
pub(crate) fn this_host() -> String {
    let named = |name: String| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().and_then(named);
    let asked = || {
        let output = Command::new("hostname").output().ok()?;
        named(String::from_utf8(output.stdout).ok()?)
    };
    kernel.or_else(asked).unwrap_or_else(|| "localhost".to_owned())
}
