//! Credentials and certificates for the tests of all languages, made anew for each run: nothing that is committed
//! expires, and no secret is ever used twice.
//!
//! `tests/shared/sign_in.json` says which servers, files and rows there are. This writes the files, and the table with
//! every `${name}` in it replaced, so that the runners of the three languages need no more than to read it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::missing_panics_doc)] // a test without its files fails here

pub mod certs;
pub mod jwt;

use certs::{Authority, write_secret};
use jwt::{Operator, User};
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    path::Path,
};

const TABLE: &str = include_str!("../../../shared/sign_in.json");

/// Writes all files of the table into a folder, and `table.json`: the table with every `${name}` replaced, an address
/// for those rows that name none, a `monitor` port for each server, and all `secrets` that nothing may tell.
pub fn write_table(dir: &Path) -> Value {
    let mut table: Value = serde_json::from_str(TABLE).unwrap();
    let mut names = Names::new(dir);
    for (name, file) in table["files"].as_object().unwrap() {
        let (path, text) = (dir.join(name), names.fill(file["text"].as_str().unwrap()));
        write_secret(&path, &text);
        if file["open"] == true {
            open(&path);
        }
    }
    for (name, server) in table["servers"].as_object_mut().unwrap() {
        let port = names.port(&format!("monitor of {name}"));
        server["monitor"] = port.into();
        server["config"] =
            format!("http: \"127.0.0.1:{port}\"\n{}", server["config"].as_str().unwrap()).into();
    }
    for row in table["rows"].as_array_mut().unwrap() {
        row["settings"]["name"] = row["name"].clone();
        let by_env = ["NATS_SERVER_URL", "MQ_NAME_SERVER"].iter().any(|v| !row["env"][v].is_null());
        if row["settings"]["servers"].is_null() && !by_env {
            row["settings"]["servers"] = "nats://127.0.0.1:PORT".into();
        }
    }
    let (servers, rows) = (names.fill_all(&table["servers"]), names.fill_all(&table["rows"]));
    let table = json!({"servers": servers, "rows": rows, "secrets": names.secret});
    write_secret(&dir.join("table.json"), &serde_json::to_string_pretty(&table).unwrap());
    table
}

/// What the names in the table stand for.
struct Names {
    known: BTreeMap<String, String>,
    /// Which of them nobody may tell.
    secret: Vec<String>,
    dir: std::path::PathBuf,
}

impl Names {
    fn new(dir: &Path) -> Self {
        let known = BTreeMap::from([("dir".into(), dir.display().to_string())]);
        let mut this = Self { known, secret: Vec::new(), dir: dir.to_owned() };
        for name in ["password", "other_password", "token", "wrong"] {
            this.secret(name, &format!("{name}-{}", random()));
        }
        for name in ["nkey", "nkey2", "nkey_of_nobody"] {
            let pair = KeyPair::new_user();
            this.known.insert(format!("{name}.public"), pair.public_key());
            this.secret(&format!("{name}.seed"), &pair.seed().unwrap());
        }
        this.operators();
        this.certificates();
        this
    }
    fn secret(&mut self, name: &str, text: &str) {
        self.known.insert(name.into(), text.into());
        self.secret.push(text.into());
    }
    fn operators(&mut self) {
        let (operator, stranger) = (Operator::new(), Operator::new());
        let (user, user2, revoked) = (User::default(), User::default(), User::default());
        self.known.insert("operator".into(), operator.config_revoking(&[&revoked]));
        for (name, jwt, user) in [
            ("user", operator.jwt_of(&user, None), &user),
            ("user2", operator.jwt_of(&user2, None), &user2),
            ("expired", operator.jwt_of(&user, Some(1_700_000_001)), &user),
            ("revoked", operator.jwt_of(&revoked, None), &revoked),
            ("stranger", stranger.jwt_of(&user, None), &user),
        ] {
            self.known.insert(format!("{name}.public"), user.public());
            self.known.insert(format!("{name}.creds"), jwt::creds(&jwt, &user.seed()));
            self.secret(&format!("{name}.jwt"), &jwt);
            self.secret(&format!("{name}.seed"), &user.seed());
        }
    }
    fn certificates(&mut self) {
        let authority = Authority::new(&self.dir);
        authority.issue("server", &["127.0.0.1", "localhost"]);
        authority.issue("named", &["bus.internal"]);
        authority.issue_expired("late", &["127.0.0.1"]);
        for client in ["svc", "next", "nobody"] {
            authority.issue(client, &[&format!("{client}.internal")]);
        }
        authority.issue_expired("late_svc", &["svc.internal"]);
        let other = self.dir.join("other");
        fs::create_dir(&other).unwrap();
        Authority::new(&other).issue("svc", &["svc.internal"]);
        for key in ["svc.key", "next.key", "late_svc.key", "other/svc.key"] {
            // A line of its middle: those around it are the same in every key.
            let text = fs::read_to_string(self.dir.join(key)).unwrap();
            self.secret.push(text.lines().nth(1).unwrap()[16..].to_owned());
        }
    }
    /// A port below those that systems take for outgoing connections, the same for the same name.
    fn port(&mut self, name: &str) -> u16 {
        let name = format!("port:{name}");
        if let Some(port) = self.known.get(&name) {
            return port.parse().unwrap();
        }
        let mut some = (0..1000).map(|_| 20_000 + u16::try_from(random() % 7_000).unwrap());
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = some.find(|p| free(p) && !self.known.values().any(|v| *v == p.to_string())).unwrap();
        self.known.insert(name, port.to_string());
        port
    }
    fn get(&mut self, name: &str) -> String {
        if let Some(port) = name.strip_prefix("port:") {
            return self.port(port).to_string();
        }
        if let Some(file) = name.strip_prefix("file:") {
            return fs::read_to_string(self.dir.join(file)).unwrap();
        }
        self.known.get(name).unwrap_or_else(|| panic!("${{{name}}} stands for nothing")).clone()
    }
    fn fill(&mut self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap();
            out += &(self.get(name) + rest);
        }
        out
    }
    fn fill_all(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.fill(text).into(),
            Value::Array(all) => all.iter().map(|v| self.fill_all(v)).collect(),
            Value::Object(map) => map.iter().map(|(k, v)| (self.fill(k), self.fill_all(v))).collect(),
            other => other.clone(),
        }
    }
}

/// The hasher's keys are random, and the only source of chance that the standard library has.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(unix)]
fn open(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}
#[cfg(not(unix))]
fn open(_: &Path) {}
