//! The keys of what the pipeline keeps in its tables.

use slotmap::new_key_type;

new_key_type! {
    /// One message under way.
    pub(crate) struct SlotId;
    /// One producer.
    pub(crate) struct ProducerId;
}
