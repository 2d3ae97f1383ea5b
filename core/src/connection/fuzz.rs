//! Parsers of user input, for fuzz targets and property tests: none panics, and no error shows a secret.
#![allow(clippy::panic)] // a fuzz target fails by a panic

use super::{address, sign_in};
use crate::{Config, Result, Servers};

/// The secret in the input.
const SECRET: &str = "hunter2-TopSecret";

type User = (String, Option<String>);

/// Parses addresses into host and port, user and password.
fn parsed(text: &str) -> Result<Vec<(String, Option<User>)>> {
    let config = Config { servers: text.into(), ..Config::default() };
    let pool = address::addresses(&config)?;
    let _ = sign_in::SignIn::of(&config, &pool)?;
    Ok(pool.into_iter().map(|a| (address::shown(&a.addr), a.user)).collect())
}

/// Parses addresses with a secret in them: a password after `user`, or a token when `user` is empty.
///
/// # Panics
/// When an error or a shown address contains the secret.
pub(crate) fn address(before: &str, user: &str, host: &str) {
    let secret = if user.is_empty() { SECRET.to_owned() } else { format!("{user}:{SECRET}") };
    // The second one has a comma, which splits the address.
    for text in [format!("{before}{secret}@{host}"), format!("{before}{secret},x@{host}")] {
        // A fuzzer may learn the secret from this check and write it as a host.
        if text.matches(SECRET).count() > 1 {
            continue;
        }
        hides_secret(&Servers::from(text.as_str()).to_string());
        match parsed(&text) {
            Ok(all) => all.iter().for_each(|(shown, _)| hides_secret(shown)),
            Err(e) => hides_secret(&format!("{e} {e:?} {}", e.to_json())),
        }
    }
}
/// Parses the text of a credentials file.
///
/// # Panics
/// When an error says more than what is missing.
pub(crate) fn credentials(text: &str) {
    let Err(error) = sign_in::parse_credentials(text) else { return };
    let allowed = ["user JWT", "nkey seed", "valid nkey seed"]
        .map(|w| format!("credentials: the text given holds no {w}"));
    assert!(allowed.contains(&error), "the error says too much: {error}");
}

fn hides_secret(text: &str) {
    assert!(!text.contains(SECRET), "the secret shows: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    /// Any text, with many of the characters of addresses.
    fn junk() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9:/@,.%?#\\[\\]\\\\ -]{0,24}", "\\PC{0,12}", any::<String>()]
    }

    const JWT: &str = "-----BEGIN NATS USER JWT-----";
    const SEED: &str = "-----BEGIN USER NKEY SEED-----";

    proptest! {
        /// Addresses: no input panics, and no error shows the secret.
        #[test]
        fn no_address_shows_its_secret(before in junk(), user in junk(), host in junk()) {
            address(&before, &user, &host);
            address(&format!("nats://{before}"), &user, &host);
        }

        /// Addresses: user, password and host come out as they went in, whatever their characters.
        #[test]
        fn a_good_address_is_read(
            scheme in prop_oneof![Just("nats://"), Just("tls://"), Just("ws://"), Just("wss://"), Just("")],
            user in "\\PC{1,12}",
            password in proptest::option::of("\\PC{1,12}"),
            host in prop_oneof!["[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{2,5}){0,2}", Just("127.0.0.1".to_owned()), Just("[::1]".to_owned())],
            port in 1u16..,
        ) {
            let escaped = |s: &str| utf8_percent_encode(s, NON_ALPHANUMERIC).to_string();
            let secret = password.as_deref().map(|p| format!(":{}", escaped(p))).unwrap_or_default();
            let text = format!("{scheme}{}{secret}@{host}:{port}", escaped(&user));
            let found = parsed(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
            prop_assert_eq!(found, [(format!("{host}:{port}"), Some((user, password)))]);
        }

        /// Credentials files: no input panics, and no error shows a line of one.
        #[test]
        fn no_error_shows_a_credentials_file(a in junk(), b in junk(), secret in "[A-Za-z0-9._-]{40,60}") {
            for text in [
                a.clone(),
                format!("{a}{secret}{b}"),
                format!("{JWT}\n{secret}\n{a}"),
                format!("{JWT}\n{a}\n{SEED}\n{b}"),
                format!("{JWT}{a}\n{secret}\n{b}{SEED}\n{secret}\n"),
            ] {
                credentials(&text);
            }
        }
    }

    proptest! {
        // Making keys is slow without optimisation.
        #![proptest_config(ProptestConfig::with_cases(8))]
        /// Credentials files: a good one parses with any text around it and either line ending.
        #[test]
        fn a_good_credentials_file_is_read(
            jwt in "[A-Za-z0-9_.-]{1,80}".prop_filter("no mark", |s| !s.starts_with('-')),
            words in "[A-Za-z0-9 *.\n]{0,40}",
            windows: bool,
            seed: [u8; 32],
        ) {
            let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, seed).unwrap();
            let text = format!(
                "{words}\n{JWT}\n{jwt}\n------END NATS USER JWT------\n{words}\n{SEED}\n{}\n------END USER NKEY SEED------\n{words}",
                pair.seed().unwrap()
            );
            let text = if windows { text.replace('\n', "\r\n") } else { text };
            prop_assert_eq!(sign_in::parse_credentials(&text), Ok(Some(jwt)));
        }
    }
}
