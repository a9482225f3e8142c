"""The bulk form of Elasticsearch and OpenSearch: a line that says what to do, and below it the document, or none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

_ACTIONS = frozenset({"index", "create", "update", "delete"})
_FURTHER_KEYS = frozenset({"routing", "retry_on_conflict", "require_alias", "pipeline", "version", "version_type"})
"""Keys of an action beside those that begin with `_`."""


def is_bulk(head: str) -> bool:
    """Whether the first line of the text `head` is an action of the bulk form."""
    return _find_action(_decode(head.lstrip().partition("\n")[0])) is not None


def bulk_documents(lines: Iterable[str]) -> Iterator[str]:
    """Each document as a line, with the `_id` of its action if it has none.

    A line that is no object, and an action whose document is missing, is a JSON text, so that it is counted.
    """
    action_line, is_update = "", False
    document_id: dict[str, Any] = {}
    for line in filter(None, map(str.strip, lines)):
        value = _decode(line)
        action = _find_action(value)
        if action is None:
            document = _part_of(value) if is_update else value
            yield json.dumps(document_id | document if isinstance(document, dict) else line)
            action_line, is_update, document_id = "", False, {}
            continue
        if action_line:
            yield json.dumps(action_line)
        name, metadata = action
        action_line, is_update = "" if name == "delete" else line, name == "update"
        document_id = {"_id": metadata["_id"]} if "_id" in metadata else {}
    if action_line:
        yield json.dumps(action_line)


def _decode(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _find_action(value: object) -> tuple[str, dict[str, Any]] | None:
    """The name of an action and what it says of its document; `None` for what is no action."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((name, metadata),) = value.items()
    is_action = (
        name in _ACTIONS
        and isinstance(metadata, dict)
        and all(key.startswith("_") or key in _FURTHER_KEYS for key in metadata)
    )
    return (name, metadata) if is_action else None


def _part_of(value: object) -> object:
    """What the line below an `update` has of a document: its member `doc`, or else all of it."""
    return value["doc"] if isinstance(value, dict) and isinstance(value.get("doc"), dict) else value
