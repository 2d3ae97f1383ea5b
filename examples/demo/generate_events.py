"""Writes a file of platform events, one JSON object a line: ``{"topic": …, "key": …, "body": {…}}``.

The bodies have the shapes of the platform's Go structs. The same seed gives the same file, byte for byte.
Every event is about a document of its own, whose id no other event has and no double can hold: whoever reads
it with a plain ``JSON.parse`` gets another number. ``extra.id_text`` repeats it as text, to compare with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

APP, RESOURCE, KNOWLEDGE = "opencoze_search_app", "opencoze_search_resource", "opencoze_knowledge"
TOPICS = {APP: 0.5, RESOURCE: 0.4, KNOWLEDGE: 0.1}
"""The topics, and the share of the events each gets."""

START_MS = 1_767_225_600_000  # 2026-01-01
OPERATIONS = {"created": 0.4, "updated": 0.5, "deleted": 0.1}
SUBJECTS = [
    "客服",
    "财务报表",
    "旅行规划",
    "英语口语",
    "简历优化",
    "天气",
    "数据分析",
    "合同审查",
    "Onboarding",
    "SQL",
]
KINDS = ["助手", "机器人", "工作流", "插件", "知识库", "智能体", "应用", "模板", "Agent", "🚀 实验"]


class Generator:
    """Makes events one by one; all that is random comes from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._now = START_MS
        self._spaces = [self._snowflake() for _ in range(40)]
        self._apps = [self._snowflake() for _ in range(40)]
        self._owners = [self._snowflake() for _ in range(200)]
        self._knowledges = [self._snowflake() for _ in range(60)]

    def event(self) -> dict[str, Any]:
        """The next event, with the topic it goes to and its sharding key (null: none)."""
        topic = self._weighted(TOPICS)
        if topic == APP:
            return {"topic": topic, "key": None, "body": self._search("project_document", self._project)}
        if topic == RESOURCE:
            return {"topic": topic, "key": None, "body": self._search("resource_document", self._resource)}
        body = self._knowledge()
        return {
            "topic": topic,
            "key": str(body["KnowledgeID"] or body["Document"]["KnowledgeID"]),
            "body": body,
        }

    def _snowflake(self) -> int:
        # A millisecond each makes them unique; up here doubles are 1024 apart, and no id is a multiple of that.
        self._now += 1
        return self._now << 22 | self._random.randrange(1 << 12) << 10 | self._random.randrange(1, 1 << 10)

    def _weighted(self, shares: dict[str, float]) -> str:
        return self._random.choices(list(shares), list(shares.values()))[0]

    def _name(self) -> str:
        return f"{self._random.choice(SUBJECTS)}{self._random.choice(KINDS)} {self._random.randrange(1000)}"

    def _some(self, optional: dict[str, Any]) -> dict[str, Any]:
        """A part of the optional fields: those left out are absent, not null."""
        return {name: value for name, value in optional.items() if self._random.random() < 0.7}

    def _search(self, field: str, document: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        op = self._weighted(OPERATIONS)
        made = document(op)
        return {
            "op_type": op,
            field: made,
            "meta": {"send_time_ms": self._now, "receive_time_ms": 0},
            "extra": {"id_text": str(made.get("id") or made["res_id"])},
        }

    def _project(self, op: str) -> dict[str, Any]:
        required = {"id": self._snowflake(), "type": self._random.choice([1, 2])}
        if op == "deleted":
            return required
        published = self._random.randrange(2)
        optional = {
            "status": 1,
            "name": self._name(),
            "space_id": self._random.choice(self._spaces),
            "owner_id": self._random.choice(self._owners),
            "has_published": published,
            "create_time": self._now - self._random.randrange(10**9),
            "update_time": self._now,
            "recently_open_time": self._now,
            "is_fav": self._random.randrange(2),
            "is_recently_open": 1,
        }
        if published:
            optional["publish_time"] = self._now
        if optional["is_fav"]:
            optional["fav_time"] = self._now
        return required | self._some(optional)

    def _resource(self, op: str) -> dict[str, Any]:
        required = {"res_id": self._snowflake(), "res_type": self._random.choice([1, 2, 3, 4, 6, 7])}
        if op == "deleted":
            return required
        optional = {
            "res_sub_type": self._random.randrange(3),
            "name": self._name(),
            "owner_id": self._random.choice(self._owners),
            "space_id": self._random.choice(self._spaces),
            "app_id": self._random.choice(self._apps),
            "biz_status": 1,
            "publish_status": self._random.choice([1, 2]),
            "create_time": self._now - self._random.randrange(10**9),
            "update_time": self._now,
            "publish_time": self._now,
        }
        return required | self._some(optional)

    def _knowledge(self) -> dict[str, Any]:
        """Go field names without tags: every field is there, null where the Go pointer is nil."""
        kind = self._random.choice(["index_document", "index_documents", "delete_knowledge_data"])
        knowledge = self._random.choice(self._knowledges)
        event: dict[str, Any] = {
            "Type": kind,
            "Documents": None,
            "Document": None,
            "Slice": None,
            "SliceIDs": None,
            "KnowledgeID": knowledge,
            "DocumentReview": None,
        }
        if kind == "index_document":
            return event | {"Document": self._document(knowledge), "KnowledgeID": 0}
        if kind == "index_documents":
            return event | {"Documents": [self._document(knowledge) for _ in range(self._random.randrange(1, 4))]}
        return event | {"SliceIDs": [self._snowflake() for _ in range(self._random.randrange(1, 6))]}

    def _document(self, knowledge: int) -> dict[str, Any]:
        extension = self._random.choice(["txt", "md", "pdf", "docx"])
        size = self._random.randrange(200, 200_000)
        return {
            "ID": self._snowflake(),
            "Name": f"{self._name()}.{extension}",
            "KnowledgeID": knowledge,
            "Type": 0,
            "RawContent": "",
            "URI": f"FileBizType.Knowledge/{self._now}.{extension}",
            "URL": "",
            "Size": size,
            "SliceCount": size // 800,
            "CharCount": size // 3,
            "FileExtension": extension,
            "Status": 0,
            "Hits": self._random.randrange(50),
            "TableInfo": {
                "virtual_table_name": "",
                "physical_table_name": "",
                "table_desc": "",
                "columns": None,
            },
        }


def events(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """``count`` events made from ``seed``."""
    generator = Generator(seed)
    return (generator.event() for _ in range(count))


def write(path: Path, count: int, seed: int) -> None:
    """Writes ``count`` events to ``path``, one a line."""
    with path.open("w", encoding="utf-8") as out:
        for event in events(count, seed):
            out.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Writes a file of platform events.")
    parser.add_argument("--count", type=int, default=20_000, help="events to write (default 20000)")
    parser.add_argument("--seed", type=int, default=42, help="the same seed gives the same file (default 42)")
    parser.add_argument("--out", type=Path, default=Path("events.jsonl"), help="default events.jsonl")
    args = parser.parse_args()
    write(args.out, args.count, args.seed)
    print(f"{args.count} events in {args.out}")


if __name__ == "__main__":
    main()
