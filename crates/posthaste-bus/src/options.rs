//! Where the bus is and how it behaves: the URL and the options.

use std::path::{Path, PathBuf};
use std::time::Duration;

use posthaste_core::limits::PAYLOAD_BYTES_MOST;

use crate::error::{self, Failure};

/// How a bus behaves. All but [`BusOptions::patience`] and [`BusOptions::answer_within`] are those
/// of the process that owns the file; other processes' values do not matter while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BusOptions {
    /// How long a delivery is locked for its consumer; 30 s by default.
    pub lock: Duration,
    /// Deliveries of one message to one subscription before it becomes a dead letter; 100 by
    /// default, at least 1.
    pub max_deliveries: u32,
    /// Most bytes of a payload; 64 MiB by default, which is also the most.
    pub max_payload: usize,
    /// Most pages (4 KiB each) that the file may have, if it is to be bounded.
    pub max_pages: Option<u32>,
    /// How long a call waits for the bus to come back before it says that it is away; 2 s by
    /// default.
    pub patience: Duration,
    /// How long a call waits for the answer to what it has sent; 30 s by default.
    pub answer_within: Duration,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            lock: Duration::from_secs(30),
            max_deliveries: 100,
            max_payload: PAYLOAD_BYTES_MOST,
            max_pages: None,
            patience: Duration::from_secs(2),
            answer_within: Duration::from_secs(30),
        }
    }
}

impl BusOptions {
    /// The same options with everything inside its bounds.
    pub(crate) fn bounded(mut self) -> Self {
        self.lock = self.lock.max(Duration::from_millis(1));
        self.max_deliveries = self.max_deliveries.max(1);
        self.max_payload = self.max_payload.min(PAYLOAD_BYTES_MOST);
        self
    }
}

/// Links that are followed to a file.
const LINKS: usize = 40;

/// The path in a bus URL: `bus:///absolute/path.db`, `bus://relative.db` or `bus:relative.db`.
pub(crate) fn path_in(url: &str) -> Result<PathBuf, Failure> {
    let wrong = |what: &str| {
        Failure::Rejected(format!(
            "bus URL '{}' {what}: write bus:///absolute/path.db or bus://relative/path.db",
            url.chars().take(200).collect::<String>().escape_debug()
        ))
    };
    let Some(rest) = url.strip_prefix("bus:") else { return Err(wrong("has another scheme")) };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.contains(['?', '#']) {
        return Err(wrong("has parameters, and the bus knows none"));
    }
    let path = unescape(path).ok_or_else(|| wrong("has a broken % escape"))?;
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err(wrong("names no file"));
    }
    Ok(PathBuf::from(path))
}

/// The one absolute name of the file, so that everybody looks for its owner in the same place.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, Failure> {
    let mut path = path.to_owned();
    // A link may name a file that is not there yet. More links than this go in a circle.
    for _ in 0..LINKS {
        let Ok(target) = path.read_link() else { return resolve_name(&path) };
        // Relative to the folder of the link; an absolute one stands for itself.
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(Failure::Failed(format!("{} is a link that leads nowhere: correct it", path.display())))
}

fn resolve_name(path: &Path) -> Result<PathBuf, Failure> {
    if let Ok(found) = path.canonicalize() {
        return Ok(found);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder =
        folder.canonicalize().map_err(|error| error::in_file(path, "cannot find", &error))?;
    let name = path
        .file_name()
        .ok_or_else(|| Failure::Rejected(format!("{} names no file", path.display())))?;
    Ok(folder.join(name))
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        bytes.push(digit(*high)? * 16 + digit(*low)?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_paths() {
        let path = |url: &str| path_in(url).ok().map(|path| path.display().to_string());
        assert_eq!(path("bus:///var/lib/bus.db").as_deref(), Some("/var/lib/bus.db"));
        assert_eq!(path("bus:/var/lib/bus.db").as_deref(), Some("/var/lib/bus.db"));
        assert_eq!(path("bus:bus.db").as_deref(), Some("bus.db"));
        assert_eq!(path("bus://some/bus.db").as_deref(), Some("some/bus.db"));
        assert_eq!(path("bus:///a%20b/%C3%A4.db").as_deref(), Some("/a b/ä.db"));
        for wrong in [
            "sqlite:x.db",
            "bus:",
            "bus://",
            "bus:///a/",
            "bus:x?y=1",
            "bus:%",
            "bus:%zz",
            "bus:%+f",
            "bus:%00",
        ] {
            let failure = path_in(wrong).expect_err(wrong);
            assert!(failure.detail().contains("bus:///absolute"), "{failure:?}");
        }
    }

    #[test]
    fn a_missing_folder_is_named() {
        let failure = resolve(Path::new("/no/such/folder/bus.db")).expect_err("no folder");
        assert!(failure.detail().contains("/no/such/folder"), "{failure:?}");
    }
}
