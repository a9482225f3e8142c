"""What the arm of an experiment makes of answers: two in one list, or some slots filled at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mmse.experiment.assignment import Explore
from mmse.retrieval.explain import LED
from mmse.retrieval.explore import explore
from mmse.retrieval.interleave import Drawn, Method, interleave
from mmse.schema.search import Answer
from mmse.schema.stages import Hit


@dataclass(frozen=True)
class Mark:
    """What an experiment has to say of a hit; see `mmse.schema.http.FoundItem`. `propensity` None: nobody knows."""

    explored: bool = False
    propensity: float | None = None
    drawn: Drawn | None = None


@dataclass(frozen=True)
class Treated:
    """An answer, and a mark of each of its hits where the experiment changed their order."""

    answer: Answer
    marks: Sequence[Mark] = field(default_factory=list)


def interleaved(a: Answer, b: Answer, k: int, method: Method, seed: str) -> Treated:
    """The first `k` of two answers in one list; what else an answer says, such as facets, is `a`'s.

    An item of both is shown as the list has it that brought it. Rules are those of either.
    """
    by_id = {"a": {hit.item_id: hit for hit in a.hits}, "b": {hit.item_id: hit for hit in b.hits}}
    drawn = interleave(list(by_id["a"]), list(by_id["b"]), k, method, seed)
    hits = [by_id[one.team][one.item_id] for one in drawn]
    answer = replace(a, hits=_ranked(hits), no_good_match=not hits, rules=tuple(dict.fromkeys((*a.rules, *b.rules))))
    return Treated(answer, [Mark(drawn=one) for one in drawn])


def explored(answer: Answer, k: int, how: Explore, seed: str) -> Treated:
    """The first `k` of an answer that goes deeper, some slots filled at random; what a rule moved stays there."""
    fixed = [place for place, hit in enumerate(answer.hits[:k]) if any(why != LED for why in hit.moved_by)]
    slots = explore(len(answer.hits), k, how.share, seed, fixed)
    hits = [answer.hits[slot.place] for slot in slots]
    marks = [Mark(slot.explored, slot.propensity) for slot in slots]
    return Treated(replace(answer, hits=_ranked(hits)), marks)


def _ranked(hits: Sequence[Hit]) -> list[Hit]:
    return [hit if hit.rank == rank else replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]
