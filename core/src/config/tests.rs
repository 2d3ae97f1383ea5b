use super::*;
use crate::{
    duration::Unit,
    host::{from_host, schema::Type},
};
use proptest::prelude::*;
use serde_json::json;

proptest! {
    /// Backoff: never longer than its cap, never shorter than its jitter allows, growing without jitter.
    #[test]
    fn any_backoff(initial in 0u64..10_000, more in 0u64..100_000, factor in 1.0..5.0f64, jitter in 0.0..=1.0f64, attempt: u32, random in 0.0..1.0f64) {
        let b = Backoff {
            initial: Duration::from_millis(initial),
            max: Duration::from_millis(initial + more),
            factor,
            jitter,
            attempts: None,
        };
        let d = b.delay(attempt, random);
        prop_assert!(d <= b.max);
        let steady = Backoff { jitter: 0.0, ..b.clone() };
        prop_assert!(d.as_secs_f64() + 1e-6 >= steady.delay(attempt, random).as_secs_f64() * (1.0 - jitter));
        prop_assert!(steady.delay(attempt.saturating_add(1), 0.5) >= steady.delay(attempt, 0.5));
    }
}

fn load(explicit: serde_json::Value, env: &[(&str, &str)]) -> Result<Config> {
    Config::load(explicit, |name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
}

#[test]
fn explicit_beats_environment_beats_default() {
    assert_eq!(load(json!({}), &[]).unwrap(), Config::default());
    let env =
        [("NATS_SERVER_URL", "nats://env:1"), ("MQ_NAME_SERVER", "mq:2"), ("NATS_USE_JETSTREAM", "true")];
    assert_eq!(load(json!({}), &env).unwrap().servers.reveal(), "nats://env:1");
    assert!(load(json!({}), &env).unwrap().jetstream);
    let explicit = load(json!({"servers": "nats://x:3", "jetstream": false}), &env).unwrap();
    assert_eq!((explicit.servers.reveal(), explicit.jetstream), ("nats://x:3", false));
    let empty = [("NATS_SERVER_URL", ""), ("MQ_NAME_SERVER", "mq:2"), ("NATS_STREAM_REPLICAS", "3")];
    let c = load(json!({}), &empty).unwrap();
    assert_eq!((c.servers.reveal(), c.replicas), ("mq:2", 3));
}

#[test]
fn credentials_follow_the_platforms_precedence() {
    let all = [
        ("NATS_JWT_TOKEN", "j"),
        ("NATS_NKEY_SEED", "s"),
        ("NATS_USERNAME", "u"),
        ("NATS_PASSWORD", "p"),
        ("NATS_TOKEN", "t"),
    ];
    let c = load(json!({}), &all).unwrap();
    assert!(c.jwt.is_some() && c.nkey.is_some() && c.user.is_none() && c.token.is_none());
    let c = load(json!({}), &all[2..]).unwrap();
    assert!(c.user.is_some() && c.token.is_none());
    let c = load(json!({"token": "mine"}), &all).unwrap();
    assert!(c.token.is_some() && c.jwt.is_none() && c.user.is_none());
}

#[test]
fn mistakes_name_the_setting() {
    for (explicit, env, word) in [
        (json!({"sever": "x"}), vec![], "sever"),
        (json!({"user": "u"}), vec![], "password"),
        (json!({"jwt": "u"}), vec![], "nkey"),
        (json!({"token": "a", "user": "u", "password": "p"}), vec![], "token"),
        (json!({"connect_timeout": "soon"}), vec![], "connect_timeout"),
        (json!({"connect_timeout": -1}), vec![], "connect_timeout"),
        (json!({"jetstream": 7}), vec![], "jetstream"),
        (json!({"replicas": 9}), vec![], "replicas"),
        (json!({"reconnect": {"jitter": 3}}), vec![], "jitter"),
        (json!({}), vec![("COZE_MQ_TYPE", "kafka")], "COZE_MQ_TYPE"),
        (json!({}), vec![("NATS_USE_JETSTREAM", "maybe")], "NATS_USE_JETSTREAM"),
        (json!({}), vec![("NATS_STREAM_REPLICAS", "many")], "NATS_STREAM_REPLICAS"),
        (json!({}), vec![("NATS_USERNAME", "u")], "NATS_PASSWORD"),
    ] {
        let e = load(explicit, &env).unwrap_err();
        assert_eq!(e.code(), "config");
        assert!(e.to_string().contains(word), "{e} should name {word}");
    }
}

#[test]
fn secrets_are_never_printed() {
    for given in [
        json!({"user": "u", "password": "hunter2"}),
        json!({"servers": "nats://u:hunter2@a:1, nats://hunter2@b,tls://c"}),
        json!({"servers": "local://u:hunter2@a"}),
    ] {
        let c = load(given, &[]).unwrap();
        assert!(!format!("{c:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&c).unwrap().contains("hunter2"));
    }
}

/// Units: they follow the type of a setting, so a new time cannot be forgotten.
#[test]
fn every_time_of_every_table_follows_the_hosts_unit() {
    let mut times = 0;
    for (record, defaults) in crate::host::tables::settings() {
        for field in record.fields {
            let inner = if let Type::Option(inner) = field.ty { *inner } else { field.ty };
            if inner == Type::Time {
                times += 1;
            }
            let is_number = defaults[field.name].is_f64();
            assert!(!is_number || matches!(inner, Type::Time | Type::Number), "{}", field.name);
        }
    }
    assert!(times > 8, "{times}");
    let given = json!({"connectTimeout": 250, "reconnect": {"initial": 100, "max": "3s"}, "replicas": 5});
    let told = from_host::<Config>(given, Unit::Milliseconds).unwrap();
    assert_eq!(
        told,
        json!({"connect_timeout": 0.25, "reconnect": {"initial": 0.1, "max": "3s"}, "replicas": 5})
    );
    let given = json!({"group": "g", "ackWait": 1500, "maxProcessing": 7, "pendingLimit": 5});
    let c: ConsumerConfig = crate::host::settings(given, Unit::Milliseconds).unwrap();
    assert_eq!((c.ack_wait, c.max_processing), (Some(Duration::from_millis(1500)), Duration::from_millis(7)));
}

#[test]
fn backoff_grows_and_is_capped() {
    let b = Backoff::default();
    assert_eq!(b.delay(0, 0.5), Duration::from_millis(100));
    assert_eq!(b.delay(3, 0.5), Duration::from_millis(800));
    assert_eq!(b.delay(60, 0.5), Duration::from_secs(8));
    assert_eq!(b.delay(u32::MAX, 1.0), Duration::from_secs(8));
    assert!(b.delay(2, 0.0) < b.delay(2, 1.0));
}
