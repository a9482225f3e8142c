"""The report's names for targets, metrics and samples, and a plain note on every metric."""

from __future__ import annotations

from collections.abc import Sequence

from mmse.evaluation.rows import Measure, Row, measure_of

TARGET_NAMES = {
    "ordered": "Logged orders",
    "clicked": "Logged clicks",
    "off_search": "Orders outside the search",
    "truth": "True order chance",
    "judged": "People's grades",
}

METRIC_NAMES = {
    "recall": "Recall",
    "ndcg": "nDCG",
    "mrr": "MRR",
    "share_of_top": "Share of the true best",
    "order_rate": "Order rate",
}

TARGET_NOTES = {
    "ordered": (
        "What shoppers ordered after this search, in the test period of the log. "
        "Recall of logged orders favours systems that imitate the engine that made the log: shoppers could only order "
        "what that engine showed them. Read it together with the targets below."
    ),
    "clicked": (
        "What shoppers clicked or ordered after this search. It favours imitation of the logging engine in the same "
        "way, and a click is a weaker sign than an order."
    ),
    "off_search": (
        "Orders drawn from the simulated shoppers' true preferences over the whole catalogue, as if they had found "
        "the item without the search. The logging engine has no influence on them. Only a simulated shop has them."
    ),
    "truth": (
        "Compared with the simulated shoppers' true chance to order each item if they saw it. Only a simulated shop "
        "has it."
    ),
    "judged": "Compared with grades that people gave to pairs of query and item, whatever was shown or ordered.",
}

METRIC_NOTES = {
    "recall": (
        "Of the items that a request should find, the share that is among the first k. 0.80 means that eight of ten "
        "such items are there. It is the right metric for retrieval, whose results are ranked again later."
    ),
    "ndcg": (
        "Counts the items found by their worth (an order 3, a click 1, or the grade), and more the higher they rank, "
        "as a share of the best possible order. 1 is perfect."
    ),
    "mrr": "One divided by the rank of the first right item, 0 if none is among the first k. 0.5 means rank two.",
    "share_of_top": "Of the k items that this shopper would most likely order, the share that is among the first k.",
    "order_rate": (
        "How likely the first k are to be ordered, on average, as a share of the best that any k items could reach. "
        "Of all the numbers here it is the closest to sales."
    ),
}

RELEVANT_ITEMS = {
    "ordered": "logged orders",
    "clicked": "what was clicked or ordered",
    "off_search": "orders placed outside the search",
    "judged": "the items that people graded relevant",
}
"""The relevant items of each target, as part of a sentence."""

FILTER_SORTS = {"random": "has nothing to do with the query", "near": "is built around an item that was wanted"}
"""The sorts of filter, as part of a sentence."""

SAMPLES = {
    "all slots": "all slots that were shown",
    "explored slots": "slots filled at random",
    "hits, true chance": "the simulated truth of all hits",
}
"""The samples that probabilities are compared with."""

SAMPLES_SHORT = {"all slots": "shown", "explored slots": "explored", "hits, true chance": "in truth"}

INTERVALS_NOTE = (
    "Every interval holds the middle 95% of many repetitions. Each repetition draws the distinct queries anew, with "
    "all their requests. Differences are taken request by request. “Ahead” and “behind” mean that the interval of the "
    "difference excludes zero. If nothing differs, about one comparison in twenty is still marked by chance."
)


def measure_name(measure: Measure) -> str:
    """`recall@100` of logged orders as `Recall@100`."""
    return f"{METRIC_NAMES.get(measure.metric, measure.metric)}@{measure.k}"


def target_name(target: str) -> str:
    """The target in words."""
    return TARGET_NAMES.get(target, target)


def join_words(parts: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return " and ".join([part for part in (", ".join(parts[:-1]), *parts[-1:]) if part])


def sentence(row: Row) -> str:
    """A row as the first half of a sentence."""
    if row.metric == "recall" and row.target in RELEVANT_ITEMS:
        return f"{row.system} finds {row.value:.1%} of {RELEVANT_ITEMS[row.target]} among its first {row.k} items"
    if row.metric == "order_rate":
        return f"The first {row.k} items of {row.system} would be ordered at {row.value:.1%} of the best possible rate"
    if row.metric == "share_of_top":
        return f"{row.system} finds {row.value:.1%} of the {row.k} items that each shopper would most likely order"
    return f"{row.system} scores {row.value:.3f} in {measure_name(measure_of(row))} ({target_name(row.target).lower()})"
