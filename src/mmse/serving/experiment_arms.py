"""Changes an answer as the arm of an experiment wants it: two answers in one list, or some slots filled at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mmse.experiment.assignment import Explore
from mmse.retrieval.explain import LEAD_REASON
from mmse.retrieval.explore import explore
from mmse.retrieval.interleave import InterleavedItem, Method, interleave
from mmse.schema.columns import ITEM_GROUP
from mmse.schema.search import Answer, Hit


@dataclass(frozen=True)
class Placement:
    """How a hit came to its slot; see `mmse.schema.http.SearchHit`.

    `propensity` None: the chance is not known. `source` is the list that brought it, where two are interleaved.
    """

    explored: bool = False
    propensity: float | None = None
    source: InterleavedItem | None = None


@dataclass(frozen=True)
class ArmAnswer:
    """An answer, and the placement of each hit where the experiment changed their order."""

    answer: Answer
    placements: Sequence[Placement] = field(default_factory=list)

    def skip(self, n: int) -> ArmAnswer:
        """The answer without its first `n` hits."""
        return ArmAnswer(replace(self.answer, hits=self.answer.hits[n:]), self.placements[n:]) if n else self


def interleave_answers(
    a: Answer, b: Answer, k: int, method: Method, seed: str, *, all_variants: bool = False
) -> ArmAnswer:
    """The first `k` hits of two answers in one list; the rest of the answer, such as facets, is that of `a`.

    An item that both have is shown as the list has it that brought it. The rules are those of both. Variants of one
    product are one item, unless the answers have `all_variants`.
    """
    group = "item_id" if all_variants else ITEM_GROUP
    by_key = {
        team: {str(hit.item.get(group, hit.item_id)): hit for hit in answer.hits}
        for team, answer in (("a", a), ("b", b))
    }
    items = interleave(list(by_key["a"]), list(by_key["b"]), k, method, seed)
    hits = [by_key[item.team][item.item_id] for item in items]
    items = [replace(item, item_id=hit.item_id) for item, hit in zip(items, hits, strict=True)]
    answer = replace(a, hits=_number(hits), no_good_match=not hits, rules=tuple(dict.fromkeys((*a.rules, *b.rules))))
    return ArmAnswer(answer, [Placement(source=item) for item in items])


def explore_answer(answer: Answer, k: int, config: Explore, seed: str) -> ArmAnswer:
    """The first `k` hits of an answer that has more, some slots filled at random; hits that a rule moved stay."""
    fixed_slots = [
        slot for slot, hit in enumerate(answer.hits[:k]) if any(reason != LEAD_REASON for reason in hit.moved_by)
    ]
    slots = explore(len(answer.hits), k, config.share, seed, fixed_slots)
    hits = [answer.hits[slot.index] for slot in slots]
    placements = [Placement(slot.explored, slot.propensity) for slot in slots]
    return ArmAnswer(replace(answer, hits=_number(hits)), placements)


def _number(hits: Sequence[Hit]) -> list[Hit]:
    """`hits` with the ranks of their new order."""
    return [hit if hit.rank == rank else replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]
