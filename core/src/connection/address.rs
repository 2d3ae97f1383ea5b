//! Parses the server addresses: removes their secrets, and checks their schemes against one another.

use crate::{
    config::{Config, Servers},
    error::{Error, Result},
};
use async_nats::ServerAddr;
use std::{borrow::Cow, net::IpAddr, time::Duration};

/// One address of the pool, without its secrets.
pub(super) struct Address {
    pub(super) addr: ServerAddr,
    pub(super) user: Option<(String, Option<String>)>,
    /// Whether its scheme asks for encryption.
    pub(super) tls: bool,
}

fn parse(text: &str, shown: &str) -> Result<Address> {
    let bad = |why: &str| {
        Error::config(format!("servers: {shown:?} {why}: write nats://host:4222 or tls://host:4222"))
    };
    let scheme = text.split_once("://").map_or("nats", |(s, _)| s);
    if !matches!(scheme, "nats" | "tls" | "ws" | "wss") {
        return Err(bad("has a scheme that is not supported"));
    }
    let full = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let mut url = url::Url::parse(&full).map_err(|_| bad("is not an address"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("has no host"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("has more than a host and a port"));
    }
    if url.username().is_empty() && url.password().is_some() {
        return Err(bad("has a password and no user"));
    }
    let decode = |s: &str| {
        let text = percent_encoding::percent_decode_str(s).decode_utf8();
        text.map(Cow::into_owned).map_err(|_| bad("has a user or password that is not UTF-8"))
    };
    let user = match url.username() {
        "" => None,
        name => Some((decode(name)?, url.password().map(decode).transpose()?)),
    };
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    stripped.map_err(|()| bad("is not an address"))?;
    let addr = url.as_str().parse().map_err(|_| bad("is not an address"))?;
    Ok(Address { addr, user, tls: matches!(scheme, "tls" | "wss") })
}

pub(super) fn addresses(config: &Config) -> Result<Vec<Address>> {
    // This may be a secret with a comma in it, and DNS would get its first half as a host name.
    if config.servers.each().skip(1).any(|(text, _)| text.contains('@') && !Servers::has_scheme(text)) {
        return Err(Error::config(
            "servers: write addresses with credentials with their scheme, and a comma in a secret as %2C",
        ));
    }
    let found: Vec<_> = config
        .servers
        .each()
        .filter(|(text, _)| !text.is_empty())
        .map(|(text, shown)| parse(text, shown))
        .collect::<Result<_>>()?;
    if found.is_empty() {
        return Err(Error::config(
            "servers is empty: give at least one address, such as nats://127.0.0.1:4222",
        ));
    }
    let web = found.iter().filter(|a| a.addr.is_websocket()).count();
    if web > 0 && web < found.len() {
        return Err(Error::config(
            "servers: addresses of WebSockets (ws://, wss://) and others are mixed: keep one kind",
        ));
    }
    if web > 0 && needs_tls(config, &found) && !found.iter().all(|a| a.tls) {
        return Err(Error::config("servers: TLS is asked for, and an address is ws://: write wss://"));
    }
    Ok(found)
}

/// Whether every connection must be encrypted, those to discovered servers included.
pub(super) fn needs_tls(config: &Config, pool: &[Address]) -> bool {
    config.require_tls || config.tls.is_some() || pool.iter().any(|a| a.tls)
}

/// Host and port, for messages.
pub(super) fn shown(addr: &ServerAddr) -> String {
    let host = addr.host();
    if host.contains(':') { format!("[{host}]:{}", addr.port()) } else { format!("{host}:{}", addr.port()) }
}

/// Whether the address is this machine.
pub(super) fn is_loopback(addr: &ServerAddr) -> bool {
    addr.host().parse::<IpAddr>().map_or(addr.host() == "localhost", |ip| ip.is_loopback())
}

/// Resolves the host name within a timeout. The client has no timeout, so one slow name server would delay all servers.
pub(super) async fn resolves(addr: &ServerAddr, timeout: Duration) -> Result<(), String> {
    if addr.host().parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    in_time(timeout, tokio::net::lookup_host((addr.host(), addr.port()))).await
}

async fn in_time<T>(
    timeout: Duration,
    found: impl Future<Output = std::io::Result<impl Iterator<Item = T>>>,
) -> Result<(), String> {
    match tokio::time::timeout(timeout, found).await {
        Ok(Ok(mut found)) => found.next().map(|_| ()).ok_or_else(|| "the host name has no address".into()),
        Ok(Err(e)) => Err(format!("the host name cannot be resolved: {e}")),
        Err(_) => Err("the host name was not resolved in time (connect_timeout)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn config(servers: &str) -> Config {
        Config { servers: servers.into(), ..Config::default() }
    }

    #[test]
    fn addresses_lose_their_secrets() {
        let pool = |c: &Config| addresses(c).map(|all| all.into_iter().map(|a| a.addr).collect::<Vec<_>>());
        let found = pool(&config("nats://u:hunter2@a:4222, b:4223,tls://c")).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), ["a:4222", "b:4223", "c:4222"]);
        assert!(!format!("{found:?}").contains("hunter2"));
        for bad in [
            "",
            " , ",
            "http://a",
            "nats://",
            "nats://a:99999",
            "nats://u:hunter2@a:4222/x?y",
            "nats://:hunter2@a",
            "nats://hunter2%FF@a",
            "nats://hunter2,x@a",
            "nats://hunter2:4222,x@y@a",
            "nats://b,u:hunter2@a",
            "nats://a b",
            "ws://a,nats://b",
            "ws://a,wss://b",
        ] {
            let e = pool(&config(bad)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Config, "{bad}");
            assert!(!e.to_string().contains("hunter2"));
        }
    }

    #[tokio::test]
    async fn a_slow_name_server_costs_only_the_timeout() {
        let never = std::future::pending::<std::io::Result<std::vec::IntoIter<()>>>();
        let e = in_time(Duration::from_millis(10), never).await.unwrap_err();
        assert!(e.contains("in time (connect_timeout)"), "{e}");
        let nothing = async { Ok(Vec::<()>::new().into_iter()) };
        assert!(in_time(Duration::from_secs(9), nothing).await.unwrap_err().contains("no address"));
        let addr = addresses(&config("localhost")).unwrap().remove(0).addr;
        resolves(&addr, Duration::from_secs(9)).await.unwrap();
    }

    #[test]
    fn this_machine_and_others() {
        for (address, here) in [
            ("127.0.0.1", true),
            ("localhost", true),
            ("[::1]:4222", true),
            ("10.0.0.1", false),
            ("a", false),
        ] {
            assert_eq!(is_loopback(&addresses(&config(address)).unwrap()[0].addr), here, "{address}");
        }
    }
}
