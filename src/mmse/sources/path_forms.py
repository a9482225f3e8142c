"""How a shop writes its categories, found from the whole column: what stands between levels, and between paths.

The texts `Home/Kitchen/Pans` and `Home|Kitchen|Pans` are paths where most values have the mark and their first levels
come again and again, as those of a hierarchy do; `AC/DC` and `N/A` are not. A mark stands between several values where
what comes after it also begins a value, or comes after different ones: `Kitchen > Mugs, Sale`, not `Food, Beverages`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise

PATH_SEPARATORS = ("|", "/")
LIST_SEPARATORS = (",", ";", "|")
MIN_SHARED_HEADS = 2 / 3
"""The least share of the different paths whose first level is that of another one as well."""
MAX_LATER_HEADS = 0.1
"""The largest share of paths that have the first level of another one further down."""
MIN_LOOSE = 0.9
"""The least share of the marks of a list that join what others join differently."""

Counts = Mapping[str, int]
"""How many items have each text."""


def find_path_separator(counts: Counts) -> str | None:
    """What stands between the levels of the categories `counts`; `None` where it is `>`, or nothing."""
    if any(">" in text for text in counts):
        return None
    return next((mark for mark in PATH_SEPARATORS if _is_hierarchy(counts, mark)), None)


def find_list_separator(counts: Counts) -> str | None:
    """What stands between several categories in one text of `counts`; `None` where none has several."""
    levels = find_path_separator(counts)
    return next((mark for mark in LIST_SEPARATORS if mark != levels and _joins_several(counts, mark)), None)


def are_levels(lists: Mapping[tuple[str, ...], int]) -> bool:
    """Whether lists hold the levels of one path each, from the top down, and not several values.

    Then what is at the top is seldom below, and there are no more different levels at the top than below.
    """
    longer = {levels: n for levels, n in lists.items() if len(levels) > 1}
    if any(">" in level for levels in longer for level in levels):
        return False
    heads, deeper_levels = {levels[0] for levels in longer}, {level for levels in longer for level in levels[1:]}
    n_later = sum(n for levels, n in longer.items() if heads & set(levels[1:]))
    return len(heads) <= len(deeper_levels) and n_later <= MAX_LATER_HEADS * sum(longer.values())


def _is_hierarchy(counts: Counts, mark: str) -> bool:
    paths = Counter[tuple[str, ...]]()
    for text, n in counts.items():
        paths[tuple(_split(text, mark))] += n
    longer = {path: n for path, n in paths.items() if len(path) > 1}
    if sum(longer.values()) <= sum(paths.values()) / 2:
        return False
    n_heads = Counter(path[0] for path in paths if path)
    n_shared = sum(n_heads[path[0]] > 1 for path in longer)
    return n_shared >= MIN_SHARED_HEADS * len(longer) and are_levels(longer)


def _joins_several(counts: Counts, mark: str) -> bool:
    starts, neighbours = set[str](), defaultdict[str, set[str]](set)
    joints = Counter[tuple[str, str]]()
    for text, n in counts.items():
        levels = [_split(value, ">") or [value] for value in _split(text, mark)]
        starts.update(path[0] for path in levels[:1])
        for path, next_path in pairwise(levels):
            joints[path[-1], next_path[0]] += n
            neighbours[next_path[0]].add(path[-1])
    n_loose = sum(n for (_, head), n in joints.items() if head in starts or len(neighbours[head]) > 1)
    return bool(joints) and n_loose >= MIN_LOOSE * sum(joints.values())


def _split(text: str, mark: str) -> list[str]:
    """The parts of `text` without blank ones."""
    return [part for part in map(str.strip, text.split(mark)) if part]
