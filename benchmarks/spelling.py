"""Queries as people type them: how much of the right spelling's first ten a changed spelling still finds.

    python benchmarks/spelling.py RUN [--queries 300] [--seed 1] [--name demo]

Takes the queries of RUN that the log has most, and items of its catalogue, and changes them by rule: one and two typos
(a letter of a word left out, doubled, swapped with the next one, or struck beside its key), plural and singular, two
words in one, one word in two, upper case and a full stop, and item ids whole, without separators, and by their
beginning. A changed query that the log has as often as five times is left out, so that no row is of a query that was
learned.

Each row is a system: the engine as it is served, the same without corrections (`correct=false`), its lexical channel
alone, Tantivy's plain query of the same words, and Tantivy's fuzzy query (one edit a word, two from eight letters on).
The value is the share of the first ten of the right spelling, by the same system, that the changed one has in its
first ten; of codes, the share that has the item first. Writes benchmarks/results/spelling_NAME.json.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from machine import environment, write_result
from tantivy import Occur, Query

from mmse.core.run_folder import RunFolder
from mmse.dataset.folder import DatasetFolder
from mmse.retrieval.interpretation import KNOWN_REQUESTS
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search

K = 10
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEAR = {
    letter: "".join(row[max(i - 1, 0) : i] + row[i + 1 : i + 2] for row in KEYS for i in [row.find(letter)] if i >= 0)
    for letter in "".join(KEYS)
}
Change = Callable[[str, random.Random], str | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="demo")
    options = parser.parse_args()
    retriever = Retriever.open(options.run, edits=False)
    table = pq.read_table(DatasetFolder(RunFolder(options.run).dataset).queries).slice(0, options.queries)
    queries = [query for query in table["query"].to_pylist() if query.isascii() and any(map(str.isalpha, query))]
    rows = [measure(retriever, queries, kind, options.seed) for kind in CHANGES]
    rows += [measure_codes(retriever, options.seed)]
    write_result(f"spelling_{options.name}", environment() | {"seed": options.seed, "k": K, "rows": rows})


def measure(retriever: Retriever, queries: Sequence[str], kind: str, seed: int) -> dict[str, object]:
    """The row of one kind of change: its queries, and the mean share that each system finds."""
    rng, pairs = random.Random(f"{seed} {kind}"), []
    for query in queries:
        changed = CHANGES[kind](query, rng)
        counts = retriever.ranking.query_counts
        if changed and changed != query and counts.counts([changed])[0] < KNOWN_REQUESTS:
            pairs.append((query, changed))
    values = {name: round(overlap(search, pairs), 3) for name, search in systems(retriever).items()}
    samples = [changed for _, changed in pairs[:3]]
    return {"change": kind, "queries": len(pairs), **values, "samples": samples}


def measure_codes(retriever: Retriever, seed: int) -> dict[str, object]:
    """How often an item is first for its id, whole, in upper case with a hyphen, and by all but its last character."""
    rng = random.Random(f"{seed} codes")
    ids = retriever.indexed_snapshot.base.items["item_id"].to_pylist()
    chosen = [item_id for item_id in rng.sample(ids, min(200, len(ids))) if any(map(str.isdigit, item_id))]
    forms = [(item_id, form) for item_id in chosen for form in (item_id, f"{item_id[:3].upper()}-{item_id[3:]}")]
    values = {}
    for name, search in systems(retriever).items():
        first = [[item_id] == search(form)[:1] for item_id, form in forms]
        begins = [item_id in search(item_id[:-1]) for item_id in chosen]
        values[name] = round(float(np.mean([*first, *begins])), 3)
    return {"change": "item id", "queries": len(forms) + len(chosen), **values, "samples": [f for _, f in forms[:3]]}


def overlap(search: Callable[[str], list[str]], pairs: Sequence[tuple[str, str]]) -> float:
    """The mean share of the first ten of the right spelling among those of the changed one."""
    shares = []
    for query, changed in pairs:
        right = search(query)
        shares.append(len(set(right) & set(search(changed))) / len(right) if right else 1.0)
    return float(np.mean(shares)) if shares else 0.0


def systems(retriever: Retriever) -> dict[str, Callable[[str], list[str]]]:
    """The systems by name: each gives the first ten item ids of a query."""

    def engine(**fields: object) -> Callable[[str], list[str]]:
        return lambda query: [
            hit.item_id
            for hit in retriever.answer(Search(query, K, explain=False, **fields)).hits  # type: ignore[arg-type]
        ]

    lexical = retriever.indexed_snapshot.lexical
    searcher, schema = lexical._searcher, lexical._index.schema

    def bare(*, is_fuzzy: bool) -> Callable[[str], list[str]]:
        def term(word: str) -> Query:
            if not is_fuzzy or any(map(str.isdigit, word)):
                return Query.term_query(schema, "title", word, "freq")
            return Query.fuzzy_term_query(schema, "title", word, distance=2 if len(word) >= 8 else 1)

        def search(query: str) -> list[str]:
            stems = lexical.stems(query)
            if not stems:
                return []
            found = searcher.search(Query.boolean_query([(Occur.Should, term(s)) for s in stems]), K, count=False).hits
            rows = np.array(searcher.fast_field_values("row", [address for _, address in found]), np.int64)
            return [str(item["item_id"]) for item in retriever.indexed_snapshot.display_items(rows)]

        return search

    return {
        "mmse": engine(),
        "mmse, no corrections": engine(correct=False),
        "mmse, words alone": engine(channel="lexical"),
        "tantivy": bare(is_fuzzy=False),
        "tantivy fuzzy": bare(is_fuzzy=True),
    }


def one_typo(query: str, rng: random.Random) -> str | None:
    """A fault in one word of at least four letters."""
    words = query.split()
    places = [index for index, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not places:
        return None
    place = rng.choice(places)
    words[place] = mistype(words[place], rng)
    return " ".join(words)


def two_typos(query: str, rng: random.Random) -> str | None:
    """Two faults, in two words where there are two."""
    first = one_typo(query, rng)
    for _ in range(20):
        second = first and one_typo(first, rng)
        if second and second != query and distance_words(query, second) == min(2, n_long(query)):
            return second
    return None


def n_long(query: str) -> int:
    """The words that may get a fault."""
    return sum(len(word) >= 4 and word.isalpha() for word in query.split())


def distance_words(a: str, b: str) -> int:
    """How many words differ."""
    return sum(x != y for x, y in zip(a.split(), b.split(), strict=True))


def mistype(word: str, rng: random.Random) -> str:
    """`word` with one letter left out, doubled, swapped with the next, or struck on the key beside it."""
    index = rng.randrange(len(word) - 1)
    kind = rng.choice(("omit", "double", "swap", "key"))
    if kind == "omit":
        return word[:index] + word[index + 1 :]
    if kind == "double":
        return word[: index + 1] + word[index:]
    if kind == "swap" and word[index] != word[index + 1]:
        return word[:index] + word[index + 1] + word[index] + word[index + 2 :]
    near = NEAR.get(word[index], "")
    return word[:index] + rng.choice(near) + word[index + 1 :] if near else word[:index] + word[index + 1 :]


def other_number(query: str, _: random.Random) -> str | None:
    """The last word in the plural, or in the singular where it is one."""
    if not query[-1].isalpha() or len(query.split()[-1]) < 4:
        return None
    if query.endswith("ies"):
        return query[:-3] + "y"
    if query.endswith("s") and not query.endswith(("ss", "us", "is")):
        return query[:-2] if query.endswith(("ches", "shes", "xes", "sses")) else query[:-1]
    if query.endswith("y") and query[-2] not in "aeiou":
        return query[:-1] + "ies"
    return query + ("es" if query.endswith(("ch", "sh", "x", "ss")) else "s")


def joined(query: str, _: random.Random) -> str | None:
    """The first two words in one."""
    words = query.split()
    return "".join(words[:2]) + "".join(f" {word}" for word in words[2:]) if len(words) > 1 else None


def split(query: str, rng: random.Random) -> str | None:
    """A word of at least seven letters in two, anywhere behind the second letter."""
    words = query.split()
    places = [index for index, word in enumerate(words) if len(word) >= 7 and word.isalpha()]
    if not places:
        return None
    place = rng.choice(places)
    middle = rng.randrange(3, len(words[place]) - 2)
    words[place] = f"{words[place][:middle]} {words[place][middle:]}"
    return " ".join(words)


def shouted(query: str, _: random.Random) -> str:
    """In upper case, with a full stop."""
    return f" {query.upper()}. "


def accented(query: str, rng: random.Random) -> str | None:
    """With an accent on a vowel."""
    places = [index for index, letter in enumerate(query) if letter in "aeiou"]
    if not places:
        return None
    place = rng.choice(places)
    return query[: place + 1] + "\u0301" + query[place + 1 :]


CHANGES: dict[str, Change] = {
    "one typo": one_typo,
    "two typos": two_typos,
    "plural or singular": other_number,
    "two words in one": joined,
    "one word in two": split,
    "upper case, full stop": shouted,
    "an accent more": accented,
}


if __name__ == "__main__":
    main()
