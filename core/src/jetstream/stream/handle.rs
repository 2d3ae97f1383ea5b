//! A stream by name: its info, its consumers, and purging it.

use super::{
    StreamInfo,
    consumers::{ConsumerInfo, ConsumerPage},
};
use crate::{
    bus::shared::Shared,
    error::{Error, Result},
    topic::{check_name, check_subscribe},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
struct Purged {
    #[serde(default)]
    purged: u64,
}

/// A stream by name.
#[derive(Clone, Debug)]
pub struct Stream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: String,
}

impl Stream {
    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The stream's info, from the server.
    ///
    /// # Errors
    /// `NotFound` when there is no stream of that name.
    pub async fn info(&self) -> Result<StreamInfo> {
        self.shared.stream(&self.name).await
    }

    /// Removes messages for all consumers, and returns their number. `topic` limits it to one topic, which may have
    /// wildcards. `keep` keeps this many of the newest messages. `before` removes only messages below this sequence.
    ///
    /// # Errors
    /// `Config` when both `keep` and `before` are given; `NotFound` when there is no stream of that name.
    pub async fn purge(&self, topic: Option<&str>, keep: Option<u64>, before: Option<u64>) -> Result<u64> {
        check_name("stream", &self.name)?;
        topic.map_or(Ok(()), check_subscribe)?;
        if keep.is_some() && before.is_some() {
            return Err(Error::config("purge: give keep or before, not both").stream(&*self.name));
        }
        if keep == Some(0) || before == Some(0) {
            // The server takes 0 for "not given" and would remove everything.
            return Err(Error::config(
                "purge: keep and before begin at 1; leave both out to remove everything",
            )
            .stream(&*self.name));
        }
        let mut query = json!({});
        let given = [
            ("filter", topic.map(Value::from)),
            ("keep", keep.map(Value::from)),
            ("seq", before.map(Value::from)),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                query[name] = value;
            }
        }
        let purged: Purged = self.api("STREAM.PURGE", &query).await?;
        Ok(purged.purged)
    }

    /// The stream's consumers: the durables of groups, and ephemeral ones.
    ///
    /// # Errors
    /// `NotFound` when there is no stream of that name.
    pub async fn consumers(&self) -> Result<Vec<ConsumerInfo>> {
        check_name("stream", &self.name)?;
        let mut found = Vec::new();
        loop {
            let page: ConsumerPage = self.api("CONSUMER.LIST", &json!({"offset": found.len()})).await?;
            let (total, of_page) = (page.total, page.consumers.unwrap_or_default());
            let is_last = of_page.is_empty();
            found.extend(of_page.into_iter().map(ConsumerInfo::from));
            if is_last || found.len() >= total {
                return Ok(found);
            }
        }
    }

    async fn api<T: serde::de::DeserializeOwned>(&self, call: &str, query: &Value) -> Result<T> {
        let call = format!("{call}.{}", self.name);
        self.shared.api(&call, query).await.map_err(|e| e.stream(&*self.name))
    }
}
