"""What is searched for where a shopper typed a text: rules, corrections, the log's form of a query, exclusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mmse.index.lexical import LexicalIndex
from mmse.index.speller import MAX_WORDS, Speller
from mmse.ranking.query_counts import QueryCounts
from mmse.ranking.rules import RuleEffects, Rules
from mmse.text.exclusions import split_exclusions
from mmse.text.normalise import normalise
from mmse.text.terms import main_terms

KNOWN_REQUESTS = 5
"""A query that the log has so often is never corrected: the model learned what it leads to."""
_Expansions = tuple[tuple[str, tuple[str, ...]], ...]
"""Words, each with the phrases that may replace it."""


@dataclass(frozen=True)
class QueryInterpreter:
    """Knows the words of catalogue and log, and how often the log has a query.

    `reads_any_word` tells that the encoder brings a language of its own, as a transformer does.
    """

    speller: Speller
    query_counts: QueryCounts
    reads_any_word: bool = False

    def interpret(
        self, query: str, rules: Rules, moment: datetime, lexical: LexicalIndex, *, correct: bool = True
    ) -> RuleEffects:
        """What `query` means at `moment` for a catalogue with the words of `lexical`.

        Without `correct` it is searched for as it is written, and so is a code. A query that a rule redirects, or that
        a rule is for in its own spelling, is not corrected. The last part of compounds that only they have (`schraube`)
        finds them, and a word that nothing corrects those near it.
        """
        effects = rules.apply(query, moment)
        if not correct or lexical.find_codes(effects.query, 1) is not None:
            return effects
        if effects.query == query and not rules.are_for(query) and (correction := self._correct(query, lexical)):
            effects = replace(rules.apply(correction, moment), corrected_from=query)
        if self._count(effects.query):
            return effects
        text, exclusions = split_exclusions(effects.query)
        text = self.speller.canonical(text, lambda queries: self.query_counts.counts(queries).tolist())
        unknown_words = {w for w in main_terms(text) if not (self.speller.knows(w) or lexical.has_word(w))}
        compounds, near_words = self._expand(sorted(unknown_words)[:MAX_WORDS])
        if compounds or near_words:
            expansions = (*effects.expansions, *compounds, *near_words)
            effects = replace(effects, expansions=expansions, near_words=near_words)
        content_words = main_terms(" ".join(lexical.content_words(text)))
        content_words = [word for word in content_words if any(map(str.isalpha, word))] or content_words
        has_known_word = self.reads_any_word or bool(compounds) or not unknown_words.issuperset(content_words)
        return replace(effects, known_form=text, exclusions=exclusions, has_known_word=has_known_word)

    def _expand(self, unknown_words: Sequence[str]) -> tuple[_Expansions, _Expansions]:
        """The compounds that unknown words end, or are; and for the others the words near them."""
        speller = self.speller
        compounds = {word: words for word in unknown_words if (words := speller.compounds(word) or speller.parts(word))}
        near_words = {word: words for word in unknown_words if word not in compounds and (words := speller.near(word))}
        return tuple(compounds.items()), tuple(near_words.items())

    def _correct(self, query: str, lexical: LexicalIndex) -> str | None:
        """The correction of `query`; None where it has none.

        A query that the log has, or another form of one, is corrected as shoppers did it themselves, or else not.
        """
        is_known = self._count(query) >= KNOWN_REQUESTS or self.speller.variant(query) not in (None, normalise(query))
        return self.speller.correct(query, lexical.has_word, as_shoppers=is_known)

    def _count(self, query: str) -> int:
        return int(self.query_counts.counts([query])[0])
