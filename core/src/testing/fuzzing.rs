//! The parsers of input from the network and from users, for the fuzz targets in `core/fuzz`.

/// The answer to a publish.
pub fn answer(status: Option<u16>, payload: &[u8]) {
    let _ = crate::publish::pipeline::classify(status, payload);
}
/// A status of the pull protocol.
pub fn status(status: u16, text: &str) {
    let _ = crate::jetstream::status::action(status, text, None);
}
/// The ack subject of a delivery.
pub fn ack_subject(text: &str) {
    let _ = crate::Meta::parse(text);
}
/// Headers as the server stores them.
pub fn headers(raw: &[u8]) {
    let _ = crate::dead_letters::read_headers(raw);
}
/// Topics and patterns.
pub fn topics(a: &str, b: &str) {
    let _ = (crate::check_publish(a), crate::check_subscribe(a), crate::topic(&[a, b]));
    let _ = crate::topic::covers(a, b);
}
/// Settings as hosts give them.
pub fn settings(text: &str) {
    if let Ok(value) = serde_json::from_str(text) {
        let _ = crate::Config::load(value, |_| None);
    }
    let _ = crate::duration::parse(text);
}
/// Addresses with a secret in them.
pub fn address(before: &str, user: &str, host: &str) {
    crate::connection::fuzz::address(before, user, host);
}
/// The text of a credentials file.
pub fn credentials(text: &str) {
    crate::connection::fuzz::credentials(text);
}
