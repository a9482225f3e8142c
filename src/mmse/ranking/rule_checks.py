"""Rules held against one another and against the catalogue: what cannot be together, and what is likely a mistake."""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from mmse.core.errors import UsageError
from mmse.ranking.rules import Bury, Pin, Redirect, Rule, Rules


def check_together(rules: Rules, called: str) -> None:
    """Raises `UsageError` for names, places or redirects that cannot stand in one file; `called` names it."""
    _check_names(rules.rules, called)
    _check_pins(rules.rules, called)
    _check_redirects(rules, called)


def warnings_of(rules: Rules, known: Callable[[str], bool]) -> list[str]:
    """What is likely a mistake, a line each: items that the catalogue does not have, places claimed twice.

    `known` says whether the catalogue has an item id.
    """
    said = []
    for rule in rules.rules:
        missing = [item for item in rule.items if not known(item)] if isinstance(rule, Pin | Bury) else []
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            said.append(f"{rule.head.name}: the catalogue has no item {missing[0]!r}{more}.")
    for rule in rules.rules:
        if isinstance(rule, Pin) and rule.head.query.is_exact:
            said += _shared_places(rule, rules.matching(rule.head.query.text))
    return said


def _check_names(rules: Sequence[Rule], called: str) -> None:
    seen: set[str] = set()
    for rule in rules:
        name = rule.head.name
        if name in seen:
            raise UsageError(f"{called}: two rules have the name '{name}'.", "Give each rule a name of its own.")
        seen.add(name)


def _check_pins(rules: Sequence[Rule], called: str) -> None:
    """Refuses two pins of one pattern that claim one place at one time."""
    claims: dict[tuple[str, int], list[Pin]] = {}
    for pin in (rule for rule in rules if isinstance(rule, Pin)):
        for place in _places(pin):
            claims.setdefault((pin.head.query.text, place), []).append(pin)
    for (query, place), pins in claims.items():
        pins.sort(key=_start)
        for one, other in itertools.pairwise(pins):  # by start: whoever overlaps anyone overlaps a neighbour
            if one.head.end is None or other.head.start is None or other.head.start <= one.head.end:
                raise UsageError(
                    f"{called}: '{one.head.name}' and '{other.head.name}' both pin to place {place} of '{query}'.",
                    "Give one of them another 'place', or dates that do not overlap.",
                )


def _check_redirects(rules: Rules, called: str) -> None:
    """Refuses redirects that could lead in a circle, whatever their dates."""
    leads = {
        rule.head.name: [
            onward.head.name
            for onward in rules.matching(rule.to)
            if isinstance(onward, Redirect) and onward.to != rule.to
        ]
        for rule in rules.rules
        if isinstance(rule, Redirect) and rule.to is not None
    }
    try:
        graphlib.TopologicalSorter(leads).prepare()
    except graphlib.CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise UsageError(f"{called}: redirects lead in a circle: {circle}.", "Let one lead elsewhere.") from error


def _shared_places(pin: Pin, matching: Sequence[Rule]) -> list[str]:
    said = []
    for other in matching:
        if isinstance(other, Pin) and not other.head.query.is_exact:
            both = set(_places(pin)) & set(_places(other))
            clash = f"'{pin.head.query.text}' fits '{other.head.query.text}' of {other.head.name}, too, and both pin to"
            said += [f"{pin.head.name}: {clash} place {min(both)}; the earlier in the file has it."] if both else []
    return said


def _places(pin: Pin) -> range:
    return range(pin.place, pin.place + len(pin.items))


def _start(pin: Pin) -> datetime:
    return pin.head.start or datetime.min.replace(tzinfo=UTC)
