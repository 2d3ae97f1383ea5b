//! Generated message ids. Every durable message has one, so an id is made without a formatter.

use std::sync::Arc;

/// The longest generated id. The length check uses it, so that a message that passes our check passes the server's.
pub(crate) const LONGEST_ID: &str = "0123456789012345678901.18446744073709551615";

/// Makes unique ids: a random prefix per connection object, then a number.
///
/// Each connection has a generator of its own. A fork copies the process-wide generator, so a child would make the same
/// ids as its parent, and the server would take the child's messages for duplicates.
#[derive(Clone, Debug)]
pub(super) struct MessageIds(Arc<str>);

impl MessageIds {
    pub(super) fn new() -> Self {
        Self(format!("{}.", nuid::NUID::new().next()).into())
    }

    pub(super) fn text(&self, number: u64) -> String {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number);
        let mut id = String::with_capacity(self.0.len() + digits.len());
        id.push_str(&self.0);
        id.push_str(digits);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let (a, b) = (MessageIds::new(), MessageIds::new());
        assert_ne!(a.text(1), b.text(1));
        assert_ne!(a.text(1), a.text(2));
        assert!(a.text(u64::MAX).len() <= LONGEST_ID.len());
    }
}
