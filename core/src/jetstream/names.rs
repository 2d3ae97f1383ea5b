//! Every name that is derived from another one: streams, subjects of dead letters, replays and records. Pure.

use crate::config::StreamLayout;

/// The families of topics that one stream can store together.
const FAMILIES: [&str; 3] = ["coze.workflow", "coze.agent", "coze.knowledge"];

/// The stream name the platform gives a topic: every `.` becomes `_`, then `_STREAM`. A wildcard becomes a word, for a
/// stream's name has none: `*` is `ANY`, `>` is `ALL`.
pub fn stream_name(topic: &str) -> String {
    let word = |token| match token {
        "*" => "ANY",
        ">" => "ALL",
        other => other,
    };
    let tokens: Vec<_> = topic.split('.').map(word).collect();
    format!("{}_STREAM", tokens.join("_"))
}

/// The stream to declare for a topic that none stores: its name and its subject.
pub(crate) fn stream_to_declare(topic: &str, layout: StreamLayout) -> (String, String) {
    let family =
        |f: &&&str| topic.strip_prefix(**f).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'));
    let subject = match (layout, FAMILIES.iter().find(family)) {
        (StreamLayout::Family, Some(family)) => format!("{family}.>"),
        _ => topic.to_owned(),
    };
    (stream_name(&subject), subject)
}

/// The stream of a stream's dead letters.
pub(crate) fn letters_stream(stream: &str) -> String {
    format!("{stream}_DLQ")
}
/// Everything that the stream of dead letters stores.
pub(crate) fn letters_subject(stream: &str) -> String {
    format!("dlq.{stream}.>")
}
/// Where a group's dead letters are stored.
pub(crate) fn letters_topic(stream: &str, group: &str) -> String {
    format!("dlq.{stream}.{group}")
}
/// Where a group's replays are stored.
pub(crate) fn replays_topic(stream: &str, group: &str) -> String {
    format!("dlq.{stream}.{group}.replay")
}
/// The durable by which a group reads its replays.
pub(crate) fn replays_durable(group: &str) -> String {
    format!("{group}_replays")
}

/// The stream of the records of a stream's failures.
pub(crate) fn attempts_stream(stream: &str) -> String {
    format!("{stream}_ATTEMPTS")
}
/// Everything that the stream of records stores.
pub(crate) fn attempts_subject(stream: &str) -> String {
    format!("attempts.{stream}.>")
}
/// Where the record of a message is stored: its sequence, and that of its replay if it is one.
pub(crate) fn attempts_topic(stream: &str, group: &str, (sequence, replay): (u64, Option<u64>)) -> String {
    let replay = replay.map_or_else(String::new, |n| format!("-r{n}"));
    format!("attempts.{stream}.{group}.{sequence}{replay}")
}
/// Where give-backs are recorded: one, or all.
pub(crate) fn returned_topic(stream: &str, group: &str, id: Option<&str>) -> String {
    format!("attempts.{stream}.{group}.returned.{}", id.unwrap_or("*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_as_the_platform_names_them() {
        for (topic, name) in [
            ("opencoze_knowledge", "opencoze_knowledge_STREAM"),
            ("coze.workflow.42.done", "coze_workflow_42_done_STREAM"),
            ("coze.*.done", "coze_ANY_done_STREAM"),
            ("coze.workflow.>", "coze_workflow_ALL_STREAM"),
            (">", "ALL_STREAM"),
        ] {
            assert_eq!(stream_name(topic), name);
        }
    }

    #[test]
    fn a_family_has_one_stream() {
        let family = |topic| stream_to_declare(topic, StreamLayout::Family);
        let whole = ("coze_workflow_ALL_STREAM".to_owned(), "coze.workflow.>".to_owned());
        for topic in ["coze.workflow.42.done", "coze.workflow.*.done", "coze.workflow.>", "coze.workflow.42"]
        {
            assert_eq!(family(topic), whole, "{topic}");
        }
        for topic in
            ["coze.workflow", "coze.workflows.42", "opencoze_knowledge", "coze.*.42", "coze.plugin.1"]
        {
            assert_eq!(family(topic), (stream_name(topic), topic.to_owned()), "{topic}");
        }
        let one = stream_to_declare("coze.agent.7.made", StreamLayout::Topic);
        assert_eq!(one, ("coze_agent_7_made_STREAM".to_owned(), "coze.agent.7.made".to_owned()));
    }
}
