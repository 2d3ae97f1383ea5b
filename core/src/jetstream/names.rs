//! Every derived name: streams, and the streams and subjects of dead letters, replays and attempt records. Pure.

use crate::config::StreamLayout;

/// Topic families that one stream can store together.
const FAMILIES: [&str; 3] = ["coze.workflow", "coze.agent", "coze.knowledge"];

/// The platform's stream name for a topic: every `.` becomes `_`, then `_STREAM` follows. A stream name may not contain
/// wildcards, so `*` becomes `ANY` and `>` becomes `ALL`.
pub fn stream_name(topic: &str) -> String {
    let word = |token| match token {
        "*" => "ANY",
        ">" => "ALL",
        other => other,
    };
    let tokens: Vec<_> = topic.split('.').map(word).collect();
    format!("{}_STREAM", tokens.join("_"))
}

/// The stream to declare for a topic: its name and its subject.
pub(crate) fn stream_to_declare(topic: &str, layout: StreamLayout) -> (String, String) {
    let family =
        |f: &&&str| topic.strip_prefix(**f).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'));
    let subject = match (layout, FAMILIES.iter().find(family)) {
        (StreamLayout::Family, Some(family)) => format!("{family}.>"),
        _ => topic.to_owned(),
    };
    (stream_name(&subject), subject)
}

/// The dead-letter stream of a stream.
pub(crate) fn letters_stream(stream: &str) -> String {
    format!("{stream}_DLQ")
}
/// The subjects of a dead-letter stream.
pub(crate) fn letters_subject(stream: &str) -> String {
    format!("dlq.{stream}.>")
}
/// The subject of a group's dead letters.
pub(crate) fn letters_topic(stream: &str, group: &str) -> String {
    format!("dlq.{stream}.{group}")
}
/// The subject of a group's replays.
pub(crate) fn replays_topic(stream: &str, group: &str) -> String {
    format!("dlq.{stream}.{group}.replay")
}
/// The durable that a group reads its replays with.
pub(crate) fn replays_durable(group: &str) -> String {
    format!("{group}_replays")
}

/// The stream of attempt records of a stream.
pub(crate) fn attempts_stream(stream: &str) -> String {
    format!("{stream}_ATTEMPTS")
}
/// The subjects of a stream of attempt records.
pub(crate) fn attempts_subject(stream: &str) -> String {
    format!("attempts.{stream}.>")
}
/// The subject of a message's attempt record: its sequence, and that of its replay if it is one.
pub(crate) fn attempts_topic(stream: &str, group: &str, (sequence, replay): (u64, Option<u64>)) -> String {
    let replay = replay.map_or_else(String::new, |n| format!("-r{n}"));
    format!("attempts.{stream}.{group}.{sequence}{replay}")
}
/// The subject of the records of returned messages: of one, or of all.
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
