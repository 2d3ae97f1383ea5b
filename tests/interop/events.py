"""The platform's events, as its services write them; one source for the producers of all three languages."""

from __future__ import annotations

import dataclasses
from typing import Any

BIG = 7_512_345_678_901_230_000
"""A snowflake: far above 2^53, and not a multiple of what a double can hold there."""
TIME = 1_760_000_000_000

APP, RESOURCE, KNOWLEDGE = "opencoze_search_app", "opencoze_search_resource", "opencoze_knowledge"


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one BatchSend takes: bodies, and the sharding key of all of them."""

    key: str | None
    bodies: list[dict[str, Any]]


def app(n: int) -> dict[str, Any]:
    """An event of opencoze_search_app; optional fields are absent, not null."""
    document: dict[str, Any] = {
        "id": BIG + n,
        "type": 1,
        "status": 1,
        "name": f'智能体 {n} <b>&"\\"</b> 🚀',
        "space_id": BIG - 1 - n,
        "owner_id": BIG + 1,
        "has_published": n % 2,
        "update_time": TIME + n,
    }
    if n % 2:
        document["publish_time"] = TIME + n
    return {
        "op_type": ("created", "updated", "deleted")[n % 3],
        "project_document": document,
        "meta": {"send_time_ms": TIME + n, "receive_time_ms": 0},
        "extra": {"来源": "工作流"} if n % 5 == 0 else None,
    }


def resource(n: int) -> dict[str, Any]:
    """An event of opencoze_search_resource."""
    document = {
        "res_id": BIG + n,
        "res_type": 4,
        "name": f"数据库 {n}",
        "owner_id": BIG + 1,
        "space_id": BIG - 1 - n,
        "app_id": BIG + 3,
        "biz_status": 1,
        "create_time": TIME + n,
    }
    return {"op_type": "updated", "resource_document": document, "extra": None}


def knowledge(n: int, knowledge_id: int) -> dict[str, Any]:
    """An event of opencoze_knowledge: Go field names, nulls and zeros written out."""
    document = {
        "ID": BIG + n,
        "Name": f"第{n}章：退货与换货.pdf",
        "KnowledgeID": knowledge_id,
        "Type": 0,
        "RawContent": "七天内可以退货。" * 8,
        "URI": f"tos-cn-i/{n}.pdf",
        "URL": "",
        "Size": 48_211 + n,
        "SliceCount": 0,
        "CharCount": 8_123,
        "FileExtension": "pdf",
        "Status": 1,
        "Hits": 0,
        "TableInfo": {"VirtualTableName": "", "PhysicalTableName": ""},
    }
    return {
        "Type": "index_document",
        "Documents": None,
        "Document": document,
        "Slice": None,
        "SliceIDs": [BIG + n, -BIG - n],
        "KnowledgeID": knowledge_id,
        "DocumentReview": None,
    }


def identity(event: dict[str, Any]) -> int:
    """The id that tells an event from all others."""
    document: dict[str, Any] = event.get("project_document") or event.get("resource_document") or event["Document"]
    found: int = document.get("id") or document.get("res_id") or document["ID"]
    return found


def batches(topic: str, count: int, start: int = 0, size: int = 10) -> list[Batch]:
    """Events ``start`` up to ``start + count`` in batches, each with a key of its own, so that no two get one id."""
    out: list[Batch] = []
    for first in range(start, start + count, size):
        numbers = range(first, min(first + size, start + count))
        key = BIG + 1_000_000 + first
        if topic == APP:
            bodies = [app(n) for n in numbers]
        elif topic == RESOURCE:
            bodies = [resource(n) for n in numbers]
        else:
            bodies = [knowledge(n, key) for n in numbers]
        out.append(Batch(str(key), bodies))
    return out
