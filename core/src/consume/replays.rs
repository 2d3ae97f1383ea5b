//! Replays of dead letters to this group: noticed when they are stored, pulled beside the topic.
//!
//! Nothing is asked of the server while a group has no replays: their topic is subscribed, and a message on it, or a
//! reconnect, is the sign to look.

use super::{Inner, buffer::Ended, pull};
use crate::{
    error::{ErrorKind, Result},
    jetstream::durable::{Durable, read_durable},
    jetstream::names::{letters_stream, replays_durable, replays_topic},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::sync::Weak;

/// Until the consumer ends.
pub(super) async fn follow(inner: Weak<Inner>, stream: String, durable: Durable) {
    loop {
        let (mut sub, mut stop, mut epoch) = {
            let Some(inner) = inner.upgrade() else { return };
            let topic = replays_topic(&stream, &inner.config.group);
            let Ok(sub) = inner.shared.client.subscribe(topic).await else { return };
            (sub, inner.stop.subscribe(), inner.shared.link.watch())
        };
        match find(&inner, &stream, &durable).await {
            Ok(Some((letters, name, durable))) => {
                // The signs are not read while replays are pulled.
                drop(sub);
                let Some(inner) = inner.upgrade() else { return };
                match pull::replays(inner, &letters, name, durable).await {
                    Ok(Ended::Closed) => return,
                    Ok(Ended::Failed(e)) | Err(e) => tracing::debug!(error = %e, "replays have ended"),
                }
                continue;
            }
            Ok(None) => {}
            Err(e) => tracing::warn!(error = %e, "replays of dead letters cannot be read now"),
        }
        tokio::select! {
            () = super::inner::stopped(&mut stop) => return,
            changed = epoch.changed() => if changed.is_err() { return },
            m = sub.next() => if m.is_none() { return },
        }
    }
}

/// The stream and the durable of the group's replays, if it has any.
async fn find(
    inner: &Weak<Inner>,
    stream: &str,
    durable: &Durable,
) -> Result<Option<(String, String, Durable)>> {
    let Some(inner) = inner.upgrade() else { return Ok(None) };
    let (letters, topic) = (letters_stream(stream), replays_topic(stream, &inner.config.group));
    let query = json!({"subjects_filter": topic});
    let found: Value = match inner.shared.api(&format!("STREAM.INFO.{letters}"), &query).await {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    if found["state"]["subjects"].as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(None);
    }
    let name = replays_durable(&inner.config.group);
    let config = json!({
        "durable_name": name, "filter_subject": topic, "ack_policy": "explicit", "deliver_policy": "all",
        "replay_policy": "instant", "max_ack_pending": pull::REPLAYS,
        // The same as the topic's, by which messages are kept from redelivery.
        "ack_wait": u64::try_from(durable.ack_wait.as_nanos()).unwrap_or(u64::MAX),
    });
    let made = inner.shared.find_or_make_durable(&letters, &name, &config).await?;
    Ok(Some((letters, name, read_durable(&made)?)))
}
