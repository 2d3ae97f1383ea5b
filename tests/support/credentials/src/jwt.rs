//! Operators, accounts and users by JWT, as `nsc` would make them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use nkeys::KeyPair;
use serde_json::{Value, json};

/// A token as NATS writes them: claims signed by an nkey.
fn jwt(issuer: &KeyPair, subject: &KeyPair, expires: Option<u64>, nats: &Value) -> String {
    let header = BASE64.encode(json!({"typ": "JWT", "alg": "ed25519-nkey"}).to_string());
    let mut claims = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "test",
        "nats": nats,
    });
    if let Some(at) = expires {
        claims["exp"] = at.into();
    }
    let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
    format!("{signed}.{}", BASE64.encode(issuer.sign(signed.as_bytes()).unwrap()))
}

/// A user's key pair.
pub struct User(KeyPair);

impl Default for User {
    fn default() -> Self {
        Self(KeyPair::new_user())
    }
}

impl User {
    /// The seed, which is its secret.
    pub fn seed(&self) -> String {
        self.0.seed().unwrap()
    }
    /// The public key, which servers know it by.
    pub fn public(&self) -> String {
        self.0.public_key()
    }
}

/// The text of a credentials file.
pub fn creds(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// An operator with one account and one user of it.
pub struct Operator {
    root: KeyPair,
    account: KeyPair,
    /// The user.
    pub user: User,
}

impl Default for Operator {
    fn default() -> Self {
        Self::new()
    }
}

impl Operator {
    /// With keys of its own.
    pub fn new() -> Self {
        let (root, account) = (KeyPair::new_operator(), KeyPair::new_account());
        Self { root, account, user: User::default() }
    }
    /// The configuration of a server that trusts it.
    pub fn config(&self) -> String {
        self.config_revoking(&[])
    }
    /// The same, of a server that lets these users in no more.
    pub fn config_revoking(&self, users: &[&User]) -> String {
        let unlimited = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
        let operator = jwt(&self.root, &self.root, None, &json!({"type": "operator", "version": 2}));
        let revoked: Value = users.iter().map(|u| (u.public(), json!(4_000_000_000_u64))).collect();
        let nats = json!({"type": "account", "version": 2, "limits": unlimited, "revocations": revoked});
        let account = jwt(&self.root, &self.account, None, &nats);
        let preload = format!("{}: {account}", self.account.public_key());
        format!("operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {preload} }}")
    }
    /// A user's token, valid until a time in seconds since 1970.
    pub fn jwt_of(&self, user: &User, expires: Option<u64>) -> String {
        let nats = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        jwt(&self.account, &user.0, expires, &nats)
    }
    /// The one user's token.
    pub fn user_jwt(&self, expires: Option<u64>) -> String {
        self.jwt_of(&self.user, expires)
    }
    /// The text of the one user's credentials file.
    pub fn creds(&self, expires: Option<u64>) -> String {
        creds(&self.user_jwt(expires), &self.user.seed())
    }
}
