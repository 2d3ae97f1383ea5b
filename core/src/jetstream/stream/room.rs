//! Explains why the server has no room for a stream: what is reserved, and what to do.

use crate::{bus::shared::Shared, error::Error, jetstream::api::is_out_of_room};
use serde_json::Value;

const GIB: f64 = (1_u64 << 30) as f64;

impl Shared {
    /// Adds to a refusal for lack of room what is reserved and what to do. Other errors stay as they are.
    pub(super) async fn explain_refusal(&self, e: Error, config: &Value) -> Error {
        if !e.err_code().is_some_and(is_out_of_room) {
            return e;
        }
        // Without permission to read the account, the rest of the text still helps.
        let account = self.account().await.ok().flatten().unwrap_or_default();
        let text = refusal(&account, config);
        Error::new(e.kind(), text).in_the_words_of(&e)
    }
}

fn refusal(account: &Value, config: &Value) -> String {
    let gib = |v: &Value| v.as_f64().map(|n| n / GIB);
    let asks = gib(&config["max_bytes"]).map_or_else(
        || "the stream".to_owned(),
        |n| format!("the stream, which reserves {n:.2} GiB (max_bytes)"),
    );
    let reserved = match (gib(&account["reserved_storage"]), account["streams"].as_u64()) {
        (Some(n), Some(streams)) => format!(" this account's {streams} streams reserve {n:.2} GiB already;"),
        _ => String::new(),
    };
    format!(
        "the server has no room for {asks}:{reserved} each topic's stream reserves 1 GiB on each of its replicas; connect with stream_layout \"family\", declare one stream over a family of topics, ask for fewer replicas, or raise the server's max_file_store"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_says_what_is_reserved_and_what_to_do() {
        let account = json!({"reserved_storage": 47_244_640_256_u64, "streams": 44});
        let text = refusal(&account, &json!({"max_bytes": 1 << 30}));
        for part in ["44 streams reserve 44.00 GiB", "reserves 1.00 GiB", "stream_layout", "max_file_store"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(refusal(&Value::Null, &json!({})).contains("max_file_store"));
    }
}
