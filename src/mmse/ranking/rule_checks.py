"""Checks rules against one another and against the catalogue: conflicts, and likely mistakes."""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from mmse.core.errors import UsageError
from mmse.ranking.rules import Bury, Pin, Redirect, Rule, Rules


def check_conflicts(rules: Rules, source_name: str) -> None:
    """Raises `UsageError` for names, pins or redirects that conflict within one file, which is called `source_name`."""
    _check_names(rules.rules, source_name)
    _check_pins(rules.rules, source_name)
    _check_redirects(rules, source_name)


def find_warnings(rules: Rules, has_item: Callable[[str], bool]) -> list[str]:
    """Likely mistakes, a line each: items that the catalogue does not have, positions that two pins claim.

    `has_item` tells whether the catalogue has an item id.
    """
    warnings = []
    for rule in rules.rules:
        unknown_items = [item for item in rule.items if not has_item(item)] if isinstance(rule, Pin | Bury) else []
        if unknown_items:
            suffix = f" and {len(unknown_items) - 1} more" if len(unknown_items) > 1 else ""
            warnings.append(f"{rule.head.name}: the catalogue has no item {unknown_items[0]!r}{suffix}.")
    for rule in rules.rules:
        if isinstance(rule, Pin) and rule.head.query.is_exact:
            warnings += _position_warnings(rule, rules.find(rule.head.query.text))
    return warnings


def _check_names(rules: Sequence[Rule], source_name: str) -> None:
    names: set[str] = set()
    for rule in rules:
        name = rule.head.name
        if name in names:
            raise UsageError(f"{source_name}: two rules have the name '{name}'.", "Give each rule a name of its own.")
        names.add(name)


def _check_pins(rules: Sequence[Rule], source_name: str) -> None:
    """Refuses two pins of the same pattern that claim the same position at the same time."""
    claims: dict[tuple[str, int], list[Pin]] = {}
    for pin in (rule for rule in rules if isinstance(rule, Pin)):
        for position in _positions(pin):
            claims.setdefault((pin.head.query.text, position), []).append(pin)
    for (query, position), pins in claims.items():
        pins.sort(key=_start)
        for pin, next_pin in itertools.pairwise(pins):  # sorted by start: if any two overlap, two neighbours do
            if pin.head.end is None or next_pin.head.start is None or next_pin.head.start <= pin.head.end:
                names = f"'{pin.head.name}' and '{next_pin.head.name}'"
                raise UsageError(
                    f"{source_name}: {names} both pin to place {position} of '{query}'.",
                    "Give one of them another 'place', or dates that do not overlap.",
                )


def _check_redirects(rules: Rules, source_name: str) -> None:
    """Refuses redirects that could lead in a circle, whatever their dates."""
    targets = {
        rule.head.name: [
            redirect.head.name
            for redirect in rules.find(rule.target_query)
            if isinstance(redirect, Redirect) and redirect.target_query != rule.target_query
        ]
        for rule in rules.rules
        if isinstance(rule, Redirect) and rule.target_query is not None
    }
    try:
        graphlib.TopologicalSorter(targets).prepare()
    except graphlib.CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise UsageError(f"{source_name}: redirects lead in a circle: {circle}.", "Let one lead elsewhere.") from error


def _position_warnings(pin: Pin, rules: Sequence[Rule]) -> list[str]:
    """A warning for each pin with a wildcard among `rules`, which fit the query of `pin`, that claims its position."""
    warnings = []
    for rule in rules:
        if isinstance(rule, Pin) and not rule.head.query.is_exact:
            positions = set(_positions(pin)) & set(_positions(rule))
            clash = f"'{pin.head.query.text}' fits '{rule.head.query.text}' of {rule.head.name}, too, and both pin to"
            if positions:
                warnings.append(f"{pin.head.name}: {clash} place {min(positions)}; the earlier in the file has it.")
    return warnings


def _positions(pin: Pin) -> range:
    return range(pin.position, pin.position + len(pin.items))


def _start(pin: Pin) -> datetime:
    return pin.head.start or datetime.min.replace(tzinfo=UTC)
