//! Keeps secrets out of everything that is printed or logged.
//!
//! Two nets. The first knows what a secret looks like: the password of a URL, and parameters of a
//! query whose names say so. The second knows the secrets themselves, because every URL of the
//! settings is remembered here; so a driver that prints its password in a form of its own is
//! caught as well. Both cast too wide rather than too narrow, but for one thing: a password that is
//! also the name of its user (`guest:guest`) is no secret to keep, and is only masked in URLs.
//!
//! They are for logs, errors and URLs. Messages on standard output are data and leave as they are.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};

const MASK: &str = "***";

/// Shorter secrets are left to the first net, because masking every `a` would hide everything.
const SHORTEST_REMEMBERED: usize = 4;

/// A list for the whole process, because panics and drivers' logs are scrubbed as well.
static REMEMBERED: RwLock<Vec<SecretString>> = RwLock::new(Vec::new());

/// Remembers the secrets in `url`, as they are written and as they are meant (percent-decoded).
pub(crate) fn remember(url: &str) {
    let parameters = url.split_once('?').map_or("", |(_, query)| query).split('&');
    let named = parameters.clone().filter_map(user_parameter);
    let users: Vec<String> = user(url).into_iter().chain(named).map(percent_decoded).collect();
    let secrets = password(url).into_iter().chain(parameters.filter_map(secret_parameter));
    for secret in secrets.filter(|secret| !users.contains(&percent_decoded(secret))) {
        for form in [secret.to_owned(), percent_decoded(secret)] {
            if form.len() >= SHORTEST_REMEMBERED {
                let mut remembered = REMEMBERED.write().unwrap_or_else(PoisonError::into_inner);
                if !remembered.iter().any(|known| known.expose_secret() == form) {
                    remembered.push(SecretString::from(form));
                }
            }
        }
    }
}

/// `text` without the secrets in it.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(text);
    for secret in REMEMBERED.read().unwrap_or_else(PoisonError::into_inner).iter() {
        if shown.contains(secret.expose_secret()) {
            shown = Cow::Owned(shown.replace(secret.expose_secret(), MASK));
        }
    }
    if !shown.contains("://") {
        return shown;
    }
    let words: Vec<Cow<'_, str>> =
        shown.split_inclusive([' ', '\n', '\t', '"', '\'', '`', '<', '>']).map(word).collect();
    Cow::Owned(words.concat())
}

/// One word without the password and the secret parameters of the URL in it.
fn word(word: &str) -> Cow<'_, str> {
    let masked = match password(word) {
        Some(password) if !password.is_empty() && password != MASK => {
            Cow::Owned(word.replacen(&format!(":{password}@"), &format!(":{MASK}@"), 1))
        }
        _ => Cow::Borrowed(word),
    };
    match without_secret_parameters(&masked) {
        Some(shown) => Cow::Owned(shown),
        None => masked,
    }
}

/// `None` if there is no secret among the parameters.
fn without_secret_parameters(url: &str) -> Option<String> {
    let (before, query) = url.split_once('?').filter(|(before, _)| before.contains("://"))?;
    let parameters: Vec<Cow<'_, str>> = query.split('&').map(parameter).collect();
    let any = parameters.iter().any(|parameter| matches!(parameter, Cow::Owned(_)));
    any.then(|| format!("{before}?{}", parameters.join("&")))
}

fn parameter(parameter: &str) -> Cow<'_, str> {
    match (secret_parameter(parameter), parameter.split_once('=')) {
        (Some(_), Some((name, _))) => Cow::Owned(format!("{name}={MASK}")),
        _ => Cow::Borrowed(parameter),
    }
}

/// The value of a parameter whose name says that it is a secret; names of files are none.
fn secret_parameter(parameter: &str) -> Option<&str> {
    const TELLING: [&str; 7] = ["password", "passwd", "pwd", "secret", "token", "sig", "key"];
    const FILES: [&str; 2] = ["sslkey", "ssl-key"];
    let (name, value) = parameter.split_once('=')?;
    let name = name.to_ascii_lowercase();
    let tells = TELLING.iter().any(|word| name.contains(word)) && !FILES.contains(&name.as_str());
    (tells && !value.is_empty() && value != MASK).then_some(value)
}

/// The value of a parameter that names the user.
fn user_parameter(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    matches!(name.to_ascii_lowercase().as_str(), "user" | "username").then_some(value)
}

/// What stands before that `:`, or before the `@` if there is none.
fn user(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user_and_password, _) = rest.rsplit_once('@')?;
    Some(user_and_password.split_once(':').map_or(user_and_password, |(user, _)| user))
}

/// What stands between the first `:` after `://` and the last `@`. A password that should have
/// been percent-encoded and was not (`p/w`, `p@w`) is found whole.
fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user_and_password, _) = rest.rsplit_once('@')?;
    let (_, password) = user_and_password.split_once(':')?;
    Some(password)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_masked_wherever_they_stand() {
        for (given, shown) in [
            ("amqp://u:p@h/v", "amqp://u:***@h/v"),
            ("cannot open amqp://u:p@h/v: refused", "cannot open amqp://u:***@h/v: refused"),
            ("two a://u:p@h b://u:q@h", "two a://u:***@h b://u:***@h"),
            ("x://u:p/w@h", "x://u:***@h"),
            ("x://u:p@w@h", "x://u:***@h"),
            ("x://h/p?user=a&password=b&x=1", "x://h/p?user=a&password=***&x=1"),
            ("x://h?SharedAccessKey=b", "x://h?SharedAccessKey=***"),
            ("sqlite:///a/b@c.db", "sqlite:///a/b@c.db"),
            ("x://u@h:80/p", "x://u@h:80/p"),
            ("nothing here: a@b", "nothing here: a@b"),
        ] {
            assert_eq!(text(given), shown);
        }
    }

    #[test]
    fn masking_twice_changes_nothing() {
        let once = text("x://u:pass@h?token=abc").into_owned();
        assert_eq!(text(&once), once);
    }

    #[test]
    fn a_remembered_password_is_masked_in_any_form() {
        remember("amqp://user:canary%2F7741@host");
        assert_eq!(text("login with canary/7741 failed"), "login with *** failed");
        assert_eq!(text("login with canary%2F7741 failed"), "login with *** failed");
        remember("postgres://host/db?user=me&password=canary%2B7742&sslkey=client.key");
        assert_eq!(text("tried canary+7742 and client.key"), "tried *** and client.key");
    }
    #[test]
    fn the_name_of_a_user_is_no_secret_although_it_is_the_password_too() {
        remember("amqp://visitor:visitor@host");
        remember("amqp://visitor%31:visitor1@host");
        remember("postgres://host/db?user=caller&password=caller");
        for told in ["user 'visitor' in vhost 'visitor'", "visitor1", "no table caller.outbox"] {
            assert_eq!(text(told), told);
        }
        assert_eq!(text("amqp://visitor:visitor@host"), "amqp://visitor:***@host");
        assert_eq!(text("x://h/d?user=caller&password=caller"), "x://h/d?user=caller&password=***");
    }
}
