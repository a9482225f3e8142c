"""Queries as people type them: how much of the right spelling's first ten a changed spelling still finds.

    python benchmarks/spelling.py RUN [--queries 300] [--seed 1] [--name demo]
    python benchmarks/spelling.py --shop german|chinese|phones [--phones FILE] [--folder FOLDER]

Takes the queries of RUN that the log has most, or those of a shop without a log (`spelling_shops.py`), and items of its
catalogue, and changes them by rule (`spelling_changes.py`): one and two typos (a letter of a word left out, doubled,
swapped with the next one, or struck beside its key), plural and singular, two words in one, one word in two, upper case
and a full stop, accents, measures in another spelling; item ids and model numbers whole, without separators, and by
their beginning; a word excluded. A changed query that the log has as often as five times is left out, so that no row is
of a query that was learned.

Each row is a system: the engine as it is served, the same without corrections (`correct=false`), its lexical channel
alone, Tantivy's plain query of the same words, and Tantivy's fuzzy query (one edit a word, two from eight letters on).
The value is the share of the first ten of the right spelling, by the same system, that the changed one has in its
first ten; of codes, the share that has the item first; of an excluded word, the share of the first ten without it; of
the last part of a compound, the share of the first ten that have it. Writes benchmarks/results/spelling_NAME.json.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from machine import environment, write_result
from spelling_changes import CHINESE, GERMAN, LATIN, Change
from spelling_shops import ending, logged, make_shop
from tantivy import Occur, Query

from mmse.retrieval.interpretation import KNOWN_REQUESTS
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search
from mmse.text.codes import code_key
from mmse.text.normalise import words
from mmse.text.terms import fold

K = 10
N_CODES = 200
Find = Callable[[str], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--shop", choices=("german", "chinese", "phones"))
    parser.add_argument("--phones", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        shop = (
            make_shop(options.shop, folder, options.queries, options.phones)
            if options.shop
            else logged(options.run, options.queries)
        )
        retriever = Retriever.open(shop.run, edits=False)
        changes = {"german": GERMAN, "chinese": CHINESE}.get(options.shop, LATIN)
        rows = [measure(retriever, shop.queries, kind, change, options.seed) for kind, change in changes.items()]
        rows += [measure_codes(retriever, options.seed), measure_exclusions(retriever, shop.queries)]
        if options.shop == "german":
            rows.append(measure_endings(retriever, shop.queries))
    facts = {"seed": options.seed, "k": K, "rows": [row for row in rows if row["queries"]]}
    write_result(f"spelling_{options.name or options.shop or 'demo'}", environment() | facts)


def measure(retriever: Retriever, queries: Sequence[str], kind: str, change: Change, seed: int) -> dict[str, object]:
    """The row of one kind of change: its queries, and the mean share that each system finds."""
    rng, pairs = random.Random(f"{seed} {kind}"), []
    for query in queries:
        changed = change(query, rng)
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
    chosen = [item_id for item_id in rng.sample(ids, min(N_CODES, len(ids))) if any(map(str.isdigit, item_id))]
    forms = [(item_id, form) for item_id in chosen for form in (item_id, f"{item_id[:3].upper()}-{item_id[3:]}")]
    all_keys = [code_key(item_id) for item_id in ids]
    values = {}
    for name, search in systems(retriever).items():
        first = [[item_id] == search(form)[:1] for item_id, form in forms]
        begins = []
        for item_id in chosen:
            hits, prefix = search(item_id[:-1]), code_key(item_id[:-1])
            n_others = sum(key.startswith(prefix) for key in all_keys)
            begins.append(item_id in hits or (n_others > K and all(code_key(h).startswith(prefix) for h in hits)))
        values[name] = round(float(np.mean([*first, *begins])), 3)
    return {"change": "item id", "queries": len(forms) + len(chosen), **values, "samples": [f for _, f in forms[:3]]}


def measure_exclusions(retriever: Retriever, queries: Sequence[str]) -> dict[str, object]:
    """The share of the first ten without a word that some, not all, of the query's first ten have in their titles."""
    rng, asked = random.Random("exclusions"), []
    for query in queries:
        hits = retriever.answer(Search(query, K, explain=False)).hits
        counts: dict[str, int] = {}
        for hit in hits:
            for word in set(words(hit.title)) - set(words(query)):
                counts[word] = counts.get(word, 0) + 1
        chosen = sorted(word for word, n in counts.items() if word.isalpha() and len(word) > 3 and 1 < n < 7)
        if chosen:
            word = rng.choice(chosen)
            asked += [(word, f"{query} -{word}"), (word, f"{query} without {word}")]
    values = {}
    for name, search in systems(retriever, shows_titles=True).items():
        shares = []
        for word, query in asked:
            titles = search(query)
            has_word = [fold(word) in words(fold(title)) and f"without {word}" not in title.lower() for title in titles]
            shares.append(1 - float(np.mean(has_word)) if titles else 1.0)
        values[name] = round(float(np.mean(shares)), 3) if shares else 0.0
    return {"change": "a word excluded", "queries": len(asked), **values, "samples": [query for _, query in asked[:3]]}


def measure_endings(retriever: Retriever, queries: Sequence[str]) -> dict[str, object]:
    """The share of the first ten that have the last part of a compound, for this part alone."""
    ends = sorted({end for query in queries if (end := ending(query))})
    values = {}
    for name, search in systems(retriever, shows_titles=True).items():
        found = {end: search(end) for end in ends}
        shares = [sum(fold(end) in fold(title) for title in found[end]) / max(len(found[end]), 1) for end in ends]
        values[name] = round(float(np.mean(shares)), 3)
    return {"change": "the last part of a compound", "queries": len(ends), **values, "samples": ends[:3]}


def overlap(search: Find, pairs: Sequence[tuple[str, str]]) -> float:
    """The mean share of the first ten of the right spelling among those of the changed one."""
    shares = []
    for query, changed in pairs:
        right = search(query)
        shares.append(len(set(right) & set(search(changed))) / len(right) if right else 1.0)
    return float(np.mean(shares)) if shares else 0.0


def systems(retriever: Retriever, *, shows_titles: bool = False) -> dict[str, Find]:
    """The systems by name: each gives the first ten item ids of a query, or their titles."""
    column = "title" if shows_titles else "item_id"

    def engine(**fields: object) -> Find:
        return lambda query: [
            getattr(hit, column)
            for hit in retriever.answer(Search(query, K, explain=False, **fields)).hits  # type: ignore[arg-type]
        ]

    lexical = retriever.indexed_snapshot.lexical
    searcher, schema = lexical._searcher, lexical._index.schema

    def bare(*, is_fuzzy: bool) -> Find:
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
            return [str(item[column]) for item in retriever.indexed_snapshot.display_items(rows)]

        return search

    return {
        "mmse": engine(),
        "mmse, no corrections": engine(correct=False),
        "mmse, words alone": engine(channel="lexical"),
        "tantivy": bare(is_fuzzy=False),
        "tantivy fuzzy": bare(is_fuzzy=True),
    }


if __name__ == "__main__":
    main()
