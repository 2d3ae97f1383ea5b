//! What users give and is parsed here, for the fuzz targets and for properties: nothing panics, no secret is told.
#![allow(clippy::panic)] // that is how a fuzz target fails

use super::{address, sign_in};
use crate::{Config, Result, Servers};

/// Stands in what is given where a secret would.
const SECRET: &str = "hunter2-TopSecret";

type User = (String, Option<String>);

/// Addresses: hosts and ports, and the users and passwords that stood in them.
fn at_addresses(text: &str) -> Result<Vec<(String, Option<User>)>> {
    let config = Config { servers: text.into(), ..Config::default() };
    let pool = address::addresses(&config)?;
    let _ = sign_in::SignIn::of(&config, &pool)?;
    Ok(pool.into_iter().map(|a| (address::shown(&a.addr), a.user)).collect())
}

/// Addresses, with a secret where their credentials stand: a password after `user`, or a token where that is empty.
///
/// # Panics
/// When the secret is told, by an error or by what is shown of the addresses.
pub(crate) fn address(before: &str, user: &str, host: &str) {
    let secret = if user.is_empty() { SECRET.to_owned() } else { format!("{user}:{SECRET}") };
    // Also one with a comma, which cuts the address in two.
    for text in [format!("{before}{secret}@{host}"), format!("{before}{secret},x@{host}")] {
        // A fuzzer learns the secret from the check, and writes it where hosts stand.
        if text.matches(SECRET).count() > 1 {
            continue;
        }
        keeps(&Servers::from(text.as_str()).to_string());
        match at_addresses(&text) {
            Ok(all) => all.iter().for_each(|(shown, _)| keeps(shown)),
            Err(e) => keeps(&format!("{e} {e:?} {}", e.to_json())),
        }
    }
}
/// The text of a credentials file.
///
/// # Panics
/// When an error tells more than what is missing.
pub(crate) fn credentials(text: &str) {
    let Err(told) = sign_in::look(text) else { return };
    let words = ["user JWT", "nkey seed", "valid nkey seed"]
        .map(|w| format!("credentials: the text given holds no {w}"));
    assert!(words.contains(&told), "more is told than that it is wrong: {told}");
}

fn keeps(told: &str) {
    assert!(!told.contains(SECRET), "a secret is told: {told}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    /// Anything, rich in what addresses are made of.
    fn junk() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9:/@,.%?#\\[\\]\\\\ -]{0,24}", "\\PC{0,12}", any::<String>()]
    }

    const JWT: &str = "-----BEGIN NATS USER JWT-----";
    const SEED: &str = "-----BEGIN USER NKEY SEED-----";

    proptest! {
        /// Addresses: no input panics, and no error tells the secret in one.
        #[test]
        fn no_address_tells_its_secret(before in junk(), user in junk(), host in junk()) {
            address(&before, &user, &host);
            address(&format!("nats://{before}"), &user, &host);
        }

        /// Addresses: the very user, password and host that were written, whatever characters they have.
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
            let found = at_addresses(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
            prop_assert_eq!(found, [(format!("{host}:{port}"), Some((user, password)))]);
        }

        /// Credentials files: no input panics, and no error tells a line of it.
        #[test]
        fn no_credentials_file_is_told(a in junk(), b in junk(), secret in "[A-Za-z0-9._-]{40,60}") {
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
        // Keys are slow to make without optimisation.
        #![proptest_config(ProptestConfig::with_cases(8))]
        /// Credentials files: a good one is read with any words around it and either line ends.
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
            prop_assert_eq!(sign_in::look(&text), Ok(Some(jwt)));
        }
    }
}
