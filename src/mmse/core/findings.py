"""What an examination of a log finds: how bad it is, the numbers, an example, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["blocks", "warns", "notes"]
SEVERITIES: tuple[Severity, ...] = ("blocks", "warns", "notes")
"""From bad to harmless. What blocks makes mining fail, or its result worthless."""


@dataclass(frozen=True)
class Finding:
    """One fault of a log. `name` is a word for programs, `numbers` are what `cause` says, to compute with."""

    name: str
    severity: Severity
    cause: str
    cure: str
    example: str = ""
    numbers: dict[str, int | float] | None = None


def sort_findings(findings: list[Finding]) -> list[Finding]:
    """The worst first; those of one severity stay in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def share(part: int | float, whole: int | float) -> str:
    """`part` of `whole` as a percentage with as many digits as it needs."""
    percentage = 100 * part / whole if whole else 0.0
    return f"{percentage:.2g}%" if percentage < 10 else f"{percentage:.0f}%"
