"""One word per idea: no class name twice, and names that are nouns (docs/glossary.md)."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "mmse"
MAX_VAGUE_SHARE = 0.01

PRONOUNS = """
    one ones those these that this it its they them their he she his her who whom whose what which other
    others both each any some none such same another everything something nothing anything everyone anyone
    someone somebody nobody anybody mine ours yours theirs either neither few many most more less least much
    several rest
"""
ADVERBS = """
    there here now then again often later together apart beside besides elsewhere already still yet so too far
    near once ever never always where when why how before after since until ago soon first last next up down
    in out over under above below off on away back within without inside outside behind ahead along across
    around else instead only just also almost enough even however therefore alone anew aside meanwhile
    otherwise place places
"""
PARTICIPLES = """
    found said told made asked shown given taken held seen known kept drawn done written sent gone got begun
    chosen broken built bought brought caught come cut dealt fallen felt grown heard hidden laid led left lent
    lost meant met paid put sold sat spoken spent stood stolen taught thought thrown understood won bound bare
"""
NOUNS = """
    embedding embeddings setting settings string strings ranking rankings encoding seed speed feed need
    training mapping heading spelling thing things serving being morning evidence warning warnings binding
    listing evening pricing indexing mining scoring rating ratings timing timings padding rounding building
    meeting tracing misspelling smoothing ceiling wording reading spring string ring wing king hundred breed hit run
    clicked ordered carted explored retrieved unclicked embed finding
"""
"""Nouns that end like participles, and the columns of the events table, which have their names from the logs."""
VAGUE = set(f"{PRONOUNS}{ADVERBS}{PARTICIPLES}".split()) - set(NOUNS.split())


def is_vague(name: str) -> bool:
    """Whether a name is a pronoun, an adverb or a participle, which says nothing of what a thing is."""
    word = name.strip("_").lower()
    if word in NOUNS.split() or "_" in word:
        return False
    return word in VAGUE or (len(word) > 4 and word.endswith(("ed", "ing")))


def names_of(tree: ast.AST) -> Iterator[str]:
    """Every name that is given to a variable, an argument, a field or an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.arg not in ("self", "cls"):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def modules() -> list[tuple[str, ast.Module]]:
    return [(str(path.relative_to(SOURCE)), ast.parse(path.read_text("utf-8"))) for path in SOURCE.rglob("*.py")]


def test_no_class_name_stands_for_two_things() -> None:
    classes = [
        (node.name.strip("_"), file)
        for file, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    counts = Counter(name for name, _ in classes)
    repeated = sorted((name, file) for name, file in classes if counts[name] > 1)
    assert not repeated, f"each class needs a name of its own: {repeated}"


def test_names_say_what_a_thing_is() -> None:
    names = [(name, file) for file, tree in modules() for name in names_of(tree)]
    vague = Counter((name, file) for name, file in names if is_vague(name))
    share = vague.total() / len(names)
    assert share < MAX_VAGUE_SHARE, f"{share:.2%} of {len(names)} names are vague: {vague.most_common(40)}"


def test_the_rule_knows_a_vague_name() -> None:
    assert all(map(is_vague, ["found", "_those", "placed", "why", "TOGETHER", "asked"]))
    assert not any(map(is_vague, ["ranking", "hit", "clicked", "n_seen", "asked_queries", "seed"]))
