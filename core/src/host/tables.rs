//! Every table that `gen` writes the forms of hosts from.

use super::{
    schema::{Choices, Described, Record, Type, Typed},
    settings::to_host,
};
use crate::{
    Backoff, Config, ConsumerConfig, ConsumerHealth, ConsumerInfo, Deliver, Event, EventKind, Health,
    JetStreamHealth, KvConfig, KvOperation, KvStatus, KvStorage, Level, MetricsSnapshot, Notice, NoticeKind,
    Order, ProducerConfig, ServerInfo, State, StreamInfo, StreamLayout, Tls, duration::Unit,
};

/// Settings: the table, and the defaults as JSON.
pub fn settings() -> Vec<(&'static Record, serde_json::Value)> {
    fn of<T: Described + Default + super::schema::Crossing>() -> (&'static Record, serde_json::Value) {
        let text = to_host(&T::default(), Unit::Seconds).unwrap_or_default();
        (T::RECORD, serde_json::from_str(&text).unwrap_or_default())
    }
    vec![
        of::<Backoff>(),
        of::<Tls>(),
        of::<Config>(),
        of::<ProducerConfig>(),
        of::<ConsumerConfig>(),
        of::<KvConfig>(),
    ]
}

/// What calls do where their caller says nothing, with the values as JSON.
pub fn defaults() -> (&'static Record, serde_json::Value) {
    let text = to_host(&super::Defaults::default(), Unit::Seconds).unwrap_or_default();
    (super::Defaults::RECORD, serde_json::from_str(&text).unwrap_or_default())
}

/// What hosts are given: each after those it holds.
pub const RECORDS: &[&Record] = &[
    ServerInfo::RECORD,
    StreamInfo::RECORD,
    ConsumerInfo::RECORD,
    ConsumerHealth::RECORD,
    Health::RECORD,
    Event::RECORD,
    Notice::RECORD,
    KvStatus::RECORD,
    MetricsSnapshot::RECORD,
];

/// Choices of settings and results.
pub fn choices() -> Vec<&'static Choices> {
    let all = [
        State::TYPE,
        JetStreamHealth::TYPE,
        EventKind::TYPE,
        Level::TYPE,
        NoticeKind::TYPE,
        StreamLayout::TYPE,
        Order::TYPE,
        Deliver::TYPE,
        KvStorage::TYPE,
        KvOperation::TYPE,
    ];
    let choices = |ty| if let Type::Choice(c) = ty { Some(c) } else { None };
    all.into_iter().filter_map(choices).collect()
}
