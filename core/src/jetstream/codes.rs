//! The server's error codes that decide something here. Decisions use these, never the server's text.

/// The last sequence is not the expected one.
pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
/// The same, where the server does not give the actual last sequence.
pub(crate) const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
/// The message is over the stream's size limit.
pub(crate) const MESSAGE_TOO_LARGE: u64 = 10054;
/// The stream could not store the message. The code stands for many causes.
pub(crate) const STORE_FAILED: u64 = 10077;
/// The stream takes no time to live per message.
pub(crate) const TTL_DISABLED: u64 = 10166;
/// `Nats-Stream-Source` is reserved for the server.
pub(crate) const SOURCE_HEADER_RESERVED: u64 = 10227;
/// The server still stores an earlier message with this id.
pub(crate) const DUPLICATE_IN_PROCESS: u64 = 10158;
/// JetStream is not enabled for the account.
pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
/// JetStream is not enabled on the server.
pub(crate) const NOT_ENABLED: u64 = 10076;
/// No server of the cluster has room for the stream.
pub(crate) const NO_SUITABLE_PEERS: u64 = 10005;
/// The account's limits leave no room.
pub(crate) const ACCOUNT_LIMITS: u64 = 10002;
/// The cluster has no room, or an account may not have replicas.
pub(crate) const INSUFFICIENT_RESOURCES: u64 = 10023;
/// The server has no memory left to reserve.
pub(crate) const MEMORY_EXCEEDED: u64 = 10028;
/// The server has no storage left to reserve.
pub(crate) const STORAGE_EXCEEDED: u64 = 10047;
/// There is no such stream.
pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
/// There is no such message.
pub(crate) const NO_MESSAGE: u64 = 10037;
/// There is no message of that sequence.
pub(crate) const NO_SEQUENCE: u64 = 10043;
/// A message could not be deleted. It may be gone already.
pub(crate) const DELETE_FAILED: u64 = 10057;
/// Another stream has this name.
pub(crate) const STREAM_NAME_IN_USE: u64 = 10058;
/// Another stream stores some of the subjects.
pub(crate) const SUBJECTS_OVERLAP: u64 = 10065;
/// A consumer of that name has other settings.
pub(crate) const CONSUMER_EXISTS: u64 = 10148;
