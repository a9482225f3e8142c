"""What is wrong with the items of a log: no text, one title for many, columns that know the future."""

from __future__ import annotations

from collections.abc import Callable

from mmse.core.findings import Finding, Severity, share
from mmse.sources.casting import ANY_ACTION
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import ItemsConfig, identifier

LEAK_CORRELATION = 0.6
"""A column whose ranks go so far along with the clicks of the log's last fifth was probably made from them."""
MIN_LEAK_ITEMS = 50


def check_texts(session: Session, config: ItemsConfig) -> list[Finding]:
    """Items whose title has no word, and titles that many items share."""
    ((n_items, n_wordless, wordless, n_titles),) = session.run("""
        SELECT count(*), count(*) FILTER (NOT has_word), any_value(item_id) FILTER (NOT has_word), count(DISTINCT title)
          FROM (SELECT item_id, title, regexp_matches(title, '\\p{L}') AND title <> item_id AS has_word
                  FROM items)""")
    findings = []
    if n_wordless:
        cause = f"{n_wordless:,} of {n_items:,} items ({share(n_wordless, n_items)}) have a title without a word."
        cure = "Look whether [items.columns] title names the right column."
        severity: Severity = "warns" if n_wordless > n_items / 100 else "notes"
        numbers = {"items": n_wordless, "of_items": n_items}
        example = f"item {wordless!r}"
        findings.append(Finding("no_words", severity, cause, cure, example=example, numbers=numbers))
    if n_items >= 20 and n_titles < n_items / 2:
        ((title, n),) = session.run(
            "SELECT title, count(*) AS n FROM items GROUP BY title ORDER BY n DESC, title LIMIT 1"
        )
        cause = f"{n_items:,} items have {n_titles:,} titles: variants of a product, or the wrong column."
        cure = "Give variants what tells them apart, such as colour and size, in their titles or as text columns."
        numbers = {"items": n_items, "titles": n_titles}
        findings.append(
            Finding("shared_titles", "warns", cause, cure, example=f"{title!r}: {n} items", numbers=numbers)
        )
    return findings


def check_leaks(session: Session, config: ItemsConfig) -> list[Finding]:
    """Numbers of the items that were counted after the log's test window began: best sellers, clicks, sales ranks."""
    findings = []
    for name in config.numeric:
        ((n, correlation),) = session.run(f"""
            WITH recent AS (SELECT quantile_disc(timestamp, 0.8) AS start FROM request_summary),
                 wanted AS (SELECT item_row, count(*) AS clicks FROM event, recent
                             WHERE flags & {ANY_ACTION} > 0 AND event.timestamp >= start GROUP BY item_row),
                 pairs AS (SELECT rank() OVER (ORDER BY coalesce(clicks, 0)) AS clicks,
                                  rank() OVER (ORDER BY {identifier(name)}) AS value
                             FROM items LEFT JOIN wanted USING (item_row) WHERE {identifier(name)} IS NOT NULL)
            SELECT count(*), coalesce(corr(clicks, value), 0) FROM pairs""")
        if n >= MIN_LEAK_ITEMS and abs(correlation) >= LEAK_CORRELATION:
            cause = (
                f"The items' column {name!r} goes along with the clicks of the log's last fifth (rank correlation "
                f"{correlation:.2f}): it seems to be counted from what the test window is to predict."
            )
            cure = f"Take {name!r} out of [items] numeric, or bring its values from before the log began."
            findings.append(Finding("time_leak", "warns", cause, cure, numbers={"correlation": round(correlation, 3)}))
    return findings


ITEM_CHECKS: tuple[Callable[[Session, ItemsConfig], list[Finding]], ...] = (check_texts, check_leaks)
"""All checks of the items."""
