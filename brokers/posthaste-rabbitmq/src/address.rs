//! Where a broker is, out of its URL. A password never leaves this type but to log in.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use url::{Host, Url};

use crate::error::Failure;

/// A parsed URL.
#[derive(Clone)]
pub(crate) struct Address {
    /// Name or number of the machine, an IPv6 number without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the connection is encrypted.
    pub(crate) is_tls: bool,
    pub(crate) user: String,
    password: String,
    pub(crate) vhost: String,
    /// What the URL says of the options, if it does.
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) connect_within: Option<Duration>,
    pub(crate) ca_file: Option<PathBuf>,
}

impl Address {
    /// Reads `amqp://user:password@host:port/vhost` or the same with `amqps`.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = |what: &str| {
            Failure::Rejected(format!(
                "the URL of the broker {what}: write amqp://user:password@host:5672/vhost, or \
                 amqps:// for an encrypted connection"
            ))
        };
        let parsed = Url::parse(url).map_err(|error| wrong(&format!("is not one ({error})")))?;
        let is_tls = match parsed.scheme() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(wrong("does not begin with amqp:// or amqps://")),
        };
        let host = match parsed.host() {
            Some(Host::Domain(name)) => decoded(name).ok_or_else(|| wrong("has a broken host"))?,
            Some(Host::Ipv4(number)) => number.to_string(),
            Some(Host::Ipv6(number)) => number.to_string(),
            None => return Err(wrong("names no host")),
        };
        let (user, password) = match (parsed.username(), parsed.password()) {
            ("", None) => ("guest", "guest"),
            ("", Some(_)) => return Err(wrong("has a password and no user")),
            (_, None) => return Err(wrong("has no password")),
            (user, Some(password)) => (user, password),
        };
        let user = decoded(user).ok_or_else(|| wrong("has a broken user name"))?;
        let password = decoded(password).ok_or_else(|| wrong("has a broken password"))?;
        // A slash at the end is a habit of writing, not the wish for a vhost without a name.
        let vhost = match parsed.path() {
            "" | "/" => "/".to_owned(),
            path => decoded(&path[1..]).ok_or_else(|| wrong("has a broken vhost"))?,
        };
        let port = parsed.port().unwrap_or(if is_tls { 5671 } else { 5672 });
        let (heartbeat, connect_within, ca_file) = (None, None, None);
        let mut address =
            Self { host, port, is_tls, user, password, vhost, heartbeat, connect_within, ca_file };
        for (name, value) in parsed.query_pairs() {
            address.set(&name, &value).ok_or_else(|| {
                let known = "heartbeat (1 to 3600 s), connection_timeout (ms) and cacertfile (a \
                             path)";
                let name = name.escape_debug();
                wrong(&format!(
                    "has a parameter '{name}' that is unknown or wrong ({known} are known)"
                ))
            })?;
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "heartbeat" => {
                // Without heartbeats a silent broker would never be noticed.
                let seconds = value.parse().ok().filter(|it| (1..=3600).contains(it))?;
                self.heartbeat = Some(Duration::from_secs(seconds));
            }
            "connection_timeout" => {
                self.connect_within = Some(Duration::from_millis(value.parse().ok()?));
            }
            "cacertfile" if !value.is_empty() => self.ca_file = Some(PathBuf::from(value)),
            _ => return None,
        }
        Some(())
    }

    /// Whether nobody else can listen on the way.
    pub(crate) fn is_local(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(number) => number.is_loopback(),
            Err(_) => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// What the client library connects and logs in with.
    pub(crate) fn uri(&self, heartbeat: Duration) -> AMQPUri {
        let userinfo =
            AMQPUserInfo { username: self.user.clone(), password: self.password.clone() };
        let heartbeat = u16::try_from(heartbeat.as_secs().max(1)).unwrap_or(u16::MAX);
        AMQPUri {
            scheme: if self.is_tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority { userinfo, host: self.host.clone(), port: self.port },
            vhost: self.vhost.clone(),
            query: AMQPQueryString { heartbeat: Some(heartbeat), ..AMQPQueryString::default() },
        }
    }
}

/// For people: without the password, and without the user.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "amqps" } else { "amqp" };
        write!(f, "{scheme}://")?;
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host.escape_debug(), self.port)?;
        }
        if self.vhost == "/" { Ok(()) } else { write!(f, "/{}", self.vhost.escape_debug()) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn decoded(text: &str) -> Option<String> {
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

    fn shown(url: &str) -> String {
        Address::parse(url).map_or_else(|failure| failure.to_string(), |it| it.to_string())
    }

    #[test]
    fn each_part_of_a_url_is_read() {
        let address = Address::parse(
            "amqps://us%40er:p%2Fw@mq.example:1234/my%2fvhost?heartbeat=7&connection_timeout=500",
        )
        .expect("a URL");
        assert_eq!((address.host.as_str(), address.port), ("mq.example", 1234));
        assert_eq!((address.user.as_str(), address.password.as_str()), ("us@er", "p/w"));
        assert_eq!(address.vhost, "my/vhost");
        assert_eq!(address.heartbeat, Some(Duration::from_secs(7)));
        assert_eq!(address.connect_within, Some(Duration::from_millis(500)));
        assert!(address.is_tls && !address.is_local());
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        for url in ["amqp://localhost", "amqp://localhost/", "amqp://localhost/%2f"] {
            let address = Address::parse(url).expect("a URL");
            assert_eq!((address.vhost.as_str(), address.port), ("/", 5672), "{url}");
            assert_eq!((address.user.as_str(), address.password.as_str()), ("guest", "guest"));
        }
        assert_eq!(Address::parse("amqps://h").expect("a URL").port, 5671);
    }

    #[test]
    fn numbers_are_hosts_too() {
        for (url, host) in [("amqp://127.0.0.9", "127.0.0.9"), ("amqp://[::1]:5", "::1")] {
            let address = Address::parse(url).expect("a URL");
            assert_eq!(address.host, host);
            assert!(address.is_local());
        }
        assert!(!Address::parse("amqp://10.0.0.1").expect("a URL").is_local());
        assert_eq!(shown("amqp://[::1]:5/v"), "amqp://[::1]:5/v");
    }

    #[test]
    fn who_logs_in_is_said_wholly_or_not_at_all() {
        assert!(shown("amqp://u@h").contains("has no password"), "{}", shown("amqp://u@h"));
        assert!(shown("amqp://:hunter2@h").contains("no user"));
        for user in ["u@h", "u:@h", ":hunter2@h"] {
            assert!(Address::parse(&format!("amqp://{user}")).is_err(), "{user}");
        }
    }

    #[test]
    fn a_heartbeat_is_between_a_second_and_an_hour() {
        for (value, is_good) in [("0", false), ("1", true), ("3600", true), ("3601", false)] {
            let text = shown(&format!("amqp://h?heartbeat={value}"));
            assert_eq!(!text.contains("1 to 3600 s"), is_good, "{text}");
        }
    }

    #[test]
    fn a_wrong_url_is_explained_and_its_password_is_not_shown() {
        for url in [
            "amqp://u:hunter2@h/%zz",
            "amqp://u:hunter2@h/?frame=1",
            "amqp://u:hunter2@h/?heartbeat=often",
            "http://u:hunter2@h",
            "amqp://u:hunter2@:5672",
            "u:hunter2@h",
            "amqp://u:%ffhunter2@h",
        ] {
            let text = shown(url);
            assert!(text.contains("amqps://") && !text.contains("hunter2"), "{url}: {text}");
        }
        let address = Address::parse("amqp://u:hunter2@h/v").expect("a URL");
        assert!(!format!("{address:?} {address}").contains("hunter2"));
    }
}
