"""Which files of a folder of exports are one table: the days, months and parts that a log is written in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mmse.sources.column_names import are_of_log
from mmse.sources.file_readers import FORMATS

ODD_FORMATS = {".xml": "merchant_feed", ".tab": "csv"}
"""Further endings of files that a folder of exports may hold."""
_DEEPEST = 3
"""Files in so many folders are looked at, those of days and parts not counted."""
_PARTITION = re.compile(r"[^=]+=.*|\d[\d_.-]*")
"""The name of a folder that holds a part of a table: `date=2026-03-01`, `2026`, `03`."""
_NAME_OF_DIGITS = re.compile(r"[0-9a-f-]{16,}", re.IGNORECASE)

ColumnsOf = Callable[[Path], Collection[str] | None]
"""Gives the columns of a file, None where it cannot be read."""


def find_sources(folder: Path, columns_of: ColumnsOf) -> dict[str, list[Path]]:
    """What shop.toml may call the tables of `folder`, and the files of each.

    Files of one folder below are one table, with those in the folders of its days or parts, unless files of other
    names have other columns. Of the files of the folder itself, those of a log whose names differ by what has digits.
    """
    sources: dict[str, list[Path]] = {}
    groups = _by_folder(folder)
    for (parent, suffix), files in groups.items():
        families = _families(files)
        if parent != Path() and _have_same_columns([family[0] for family in families.values()], columns_of):
            families = {"": files}
        has_others = any(parent in (other, *other.parents) for other, end in groups if (other, end) != (parent, suffix))
        for name, family in families.items():
            is_one = parent != Path() or _is_log_in_parts(folder, family, columns_of)
            glob = _glob_of(name, folder, parent, files, suffix) if is_one else None
            glob = str(parent) if glob and "**" in glob and not name and not has_others else glob
            sources |= {glob: family} if glob else {str(file.relative_to(folder)): [file] for file in family}
    return dict(sorted(sources.items()))


def _by_folder(folder: Path) -> dict[tuple[Path, str], list[Path]]:
    """The files that may be tables by their folder, without its parts, and their ending."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        suffix = "".join(_endings(path))
        is_hidden = any(part.startswith((".", "_")) for part in inner.parts)
        if suffix.removesuffix(".gz") not in (*FORMATS, *ODD_FORMATS) or is_hidden or not path.is_file():
            continue
        parts = inner.parent.parts
        n_plain = next((n for n, part in enumerate(parts) if _PARTITION.fullmatch(part)), len(parts))
        if n_plain < _DEEPEST and "run" not in parts:
            groups.setdefault((Path(*parts[:n_plain]), suffix), []).append(path)
    return groups


def _endings(path: Path) -> list[str]:
    name = path.name.lower()
    return [*([Path(name.removesuffix(".gz")).suffix] if name.endswith(".gz") else []), path.suffix.lower()]


def _families(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the first words of their names: `searches_2026-03.csv` and `searches_2026-04.csv` are one family."""
    families: dict[str, list[Path]] = {}
    for file in files:
        stem = file.name.partition(".")[0]
        words = re.match(r"[\W\d_]*((?:[^\W\d_]+[\s_-]*)*)", "" if _NAME_OF_DIGITS.fullmatch(stem) else stem)
        families.setdefault(words[1].rstrip(" _-") if words else "", []).append(file)
    return families


def _have_same_columns(files: Sequence[Path], columns_of: ColumnsOf) -> bool:
    """Whether all `files` that can be read have the same columns, or some of those of another."""
    found = [set(columns) for columns in map(columns_of, files) if columns is not None]
    widest = max(found, key=len, default=set[str]())
    return all(columns <= widest for columns in found)


def _is_log_in_parts(folder: Path, files: Sequence[Path], columns_of: ColumnsOf) -> bool:
    """Whether `files` are a log: a whole catalogue may be exported every day."""
    names = [str(file.relative_to(folder).with_suffix("")) for file in files]
    has_digits = len(files) > 1 and all(re.search(r"\d", name) and "(" not in name for name in names)
    columns = columns_of(files[0]) if has_digits else None
    return columns is not None and are_of_log(columns) and _have_same_columns(files, columns_of)


def _glob_of(name: str, folder: Path, parent: Path, files: Sequence[Path], suffix: str) -> str | None:
    """What shop.toml calls the family `name` of `files`; None where that would name others of them."""
    family = _families(files).get(name, []) if name else files
    if name and len(family) == 1:
        return None
    is_nested = any(file.parent != folder / parent for file in family)
    starts = all(file.name.startswith(name) for file in family)
    begin = f"{'' if starts else '*'}{name}*"
    for pattern in (f"{begin}{suffix}", f"{begin}[0-9]*{suffix}"):
        if sum(fnmatchcase(file.name.lower(), pattern.lower()) for file in files) == len(family):
            return str(parent / "**" / pattern if is_nested else parent / pattern)
    return None
