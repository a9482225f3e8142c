"""Feeds in XML, RSS or Atom, as lines of JSON: an object for each `item` or `entry`, a member for each element."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from mmse.core.errors import TableError
from mmse.sources.file_contents import open_bytes

ROWS = ("item", "entry", "product", "offer")
"""Elements that are rows, without their namespace."""


def copy_as_json_lines(file: str, table: str, target: Path) -> None:
    """Writes the rows of `file` to `target`; an element that comes again is a list. Raises `TableError`."""
    n_rows = 0
    try:
        with open_bytes(file) as source, target.open("w", encoding="utf-8") as stream:
            for _, element in ET.iterparse(source, ("end",), parser=ET.XMLParser(encoding="utf-8")):  # noqa: S314
                if _local(element.tag) in ROWS:
                    stream.write(json.dumps(_members(element)) + "\n")
                    n_rows += 1
                    element.clear()
    except ET.ParseError as error:
        raise TableError(
            f"{file} of the {table} table is not well-formed XML: {error}.", "Mend that place, or write it again."
        ) from error
    if n_rows == 0:
        raise TableError(f"{file} of the {table} table has no element {' or '.join(ROWS)}.", "Give a feed of products.")


def _members(element: ET.Element) -> dict[str, str | list[str]]:
    members: dict[str, str | list[str]] = {}
    for child in element:
        name, text = _local(child.tag), " ".join("".join(child.itertext()).split())
        if name not in members:
            members[name] = text
        else:
            values = members[name]
            members[name] = [*(values if isinstance(values, list) else [values]), text]
    return members


def _local(tag: str) -> str:
    return tag.rsplit("}", 1)[-1]
