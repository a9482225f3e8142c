"""Text into bags of grains: subwords of a tokenizer trained on the shop's own text, and hashed pairs of them.

Training, evaluation and the query path use the same code. With subwords a mistyped word shares pieces with the right
one; pairs distinguish phrases ("iphone 6", "1/2 in") from their words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
from jaxtyping import Float32, Int32, Int64
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from mmse.core.errors import ArtifactError
from mmse.core.json_files import parse_json
from mmse.text.normalise import MAX_CHARACTERS

BY_WORDS_FROM = 128
"""From this many texts on their words are read apart; with fewer that costs more than it saves."""

_ROWS = 65_536
"""How many texts are taken apart at a time."""

_BLANKLESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}"
"""Scripts without blanks: their characters are subwords, whose pairs are grains like those of words."""


@dataclass(frozen=True)
class Bags:
    """`n` bags of grain ids in one array: bag `i` is `grains[offsets[i]:offsets[i+1]]`."""

    offsets: Int64[np.ndarray, " n_plus_1"]
    grains: Int32[np.ndarray, " total"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Int32[np.ndarray, " m"] | Int64[np.ndarray, " m"]) -> Bags:
        """The bags at `rows`, in that order; a row may occur more than once."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        indices = np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1] - starts, lengths)
        return Bags(offsets, self.grains[indices])


class Tokenizer:
    """Turns text into grains `0..n_grains-1`: subwords first, then `bigram_buckets` hashed pairs of neighbours."""

    def __init__(
        self, subwords: tokenizers.Tokenizer, bigram_buckets: int, max_tokens: int, *, special: bool = False
    ) -> None:
        """With `special`, bags are whole sequences with a transformer's special tokens for start and end."""
        self._subwords = subwords
        self._special = special
        self.n_subwords = subwords.get_vocab_size()
        self.bigram_buckets = bigram_buckets
        self.max_tokens = max_tokens

    @property
    def n_grains(self) -> int:
        """How many different grains there are: the rows of a token table."""
        return self.n_subwords + self.bigram_buckets

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, bigram_buckets: int, max_tokens: int) -> Tokenizer:
        """A byte-pair tokenizer of at most `vocab_size` subwords learned from `texts`; no subword spans two words.

        The same texts give the same tokenizer. For that, subwords have no mark of their position in a word: the library
        numbers marked subwords in the order of a hash table.

        Source: Sennrich et al., *Neural Machine Translation of Rare Words with Subword Units*, ACL 2016.
        """
        subwords = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106
        without_accents = [normalizers.NFKD(), normalizers.Replace(Regex("[\u0300-\u036f]+"), ""), normalizers.NFKC()]
        subwords.normalizer = normalizers.Sequence(
            [*without_accents, normalizers.Lowercase(), normalizers.Replace("ß", "ss")]
        )
        subwords.pre_tokenizer = pre_tokenizers.Split(
            Regex(rf"\p{{N}}+|[{_BLANKLESS}]\p{{M}}*|[\p{{L}}\p{{M}}&&[^{_BLANKLESS}]]+|[^\s\p{{P}}\p{{L}}\p{{N}}]"),
            "removed",
            True,
        )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, min_frequency=2, special_tokens=["<unk>"], show_progress=False, limit_alphabet=2_000
        )
        subwords.train_from_iterator(texts, trainer)
        return cls(subwords, bigram_buckets, max_tokens)

    @classmethod
    def pretrained(cls, subwords: tokenizers.Tokenizer, *, max_tokens: int) -> Tokenizer:
        """A transformer's own tokenizer, whose bags are the transformer's input; it lower-cases, like `normalise`."""
        copy = tokenizers.Tokenizer.from_str(subwords.to_str())
        lower = normalizers.Lowercase()
        copy.normalizer = normalizers.Sequence([lower, copy.normalizer]) if copy.normalizer else lower
        copy.no_padding()
        copy.enable_truncation(max_tokens)
        return cls(copy, 0, max_tokens, special=True)

    @property
    def subwords(self) -> list[str]:
        """The text of each of the first `n_subwords` grains."""
        return [self._subwords.id_to_token(grain) or "" for grain in range(self.n_subwords)]

    def encode(self, texts: Sequence[str] | pa.ChunkedArray) -> Bags:
        """One bag for each text: at most `max_tokens` subwords and their pairs; an empty text gives an empty bag."""
        if self._special or len(texts) < BY_WORDS_FROM:
            subwords = self._encode_whole(texts if isinstance(texts, Sequence) else texts.to_pylist())
        else:
            column = texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([texts], pa.string())
            parts = [column.slice(start, _ROWS).combine_chunks() for start in range(0, len(column), _ROWS)]
            subwords = join_bags([self._encode_by_words(part) for part in parts])
        return _with_bigrams(_shorten(subwords, self.max_tokens), self.n_subwords, self.bigram_buckets)

    def _encode_whole(self, texts: Sequence[str]) -> Bags:
        """The subwords of each text, which the tokenizer reads as a whole."""
        encodings = self._subwords.encode_batch_fast(
            [text[:MAX_CHARACTERS] for text in texts], add_special_tokens=self._special
        )
        ids = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        offsets = np.append(0, np.cumsum(lengths))
        return Bags(offsets, np.fromiter(chain.from_iterable(ids), np.int32, int(offsets[-1])))

    def _encode_by_words(self, texts: pa.StringArray) -> Bags:
        """The same: no subword and no rule of the normal form reaches over a blank, so each word is read once."""
        words = pc.split_pattern(pc.utf8_slice_codeunits(texts, 0, MAX_CHARACTERS), " ")
        distinct = words.flatten().dictionary_encode()
        subwords = self._encode_whole(distinct.dictionary.to_pylist()).take(distinct.indices.to_numpy())
        return Bags(subwords.offsets[words.offsets.to_numpy()], subwords.grains)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` (readable by the `tokenizers` library) and `grains.json` into `folder`."""
        self._subwords.save(str(folder / "tokenizer.json"))
        facts = {"bigram_buckets": self.bigram_buckets, "max_tokens": self.max_tokens, "special": self._special}
        (folder / "grains.json").write_text(json.dumps(facts), "utf-8")

    @classmethod
    def open(cls, folder: Path) -> Tokenizer:
        """The tokenizer saved in `folder`; raises `ArtifactError` where a file is missing or damaged."""
        try:
            subwords = tokenizers.Tokenizer.from_str((folder / "tokenizer.json").read_text("utf-8"))
            return cls(subwords, **parse_json((folder / "grains.json").read_text("utf-8")))
        except Exception as error:  # the library raises bare Exception for what it cannot parse
            raise ArtifactError(f"Cannot read the tokenizer in {folder}: {error}.", "Train the model again.") from error


def join_bags(parts: Sequence[Bags]) -> Bags:
    """The bags of all `parts`, one part after another."""
    starts = np.cumsum([0, *(len(part.grains) for part in parts)])
    offsets = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
    return Bags(np.concatenate([[0], *offsets]).astype(np.int64), np.concatenate([part.grains for part in parts]))


def document_frequency(bags: Bags, n_grains: int) -> Float32[np.ndarray, " n_grains"]:
    """In how many of `bags` each grain occurs."""
    owner = np.repeat(np.arange(len(bags), dtype=np.int64), np.diff(bags.offsets))
    pairs = np.unique(owner * n_grains + bags.grains)
    return np.bincount(pairs % n_grains, minlength=n_grains).astype(np.float32)


def _shorten(bags: Bags, max_length: int) -> Bags:
    """The first `max_length` grains of each bag."""
    lengths = np.diff(bags.offsets)
    if lengths.max(initial=0) <= max_length:
        return bags
    slot = np.arange(len(bags.grains)) - np.repeat(bags.offsets[:-1], lengths)
    offsets = np.append(0, np.cumsum(np.minimum(lengths, max_length)))
    return Bags(offsets, bags.grains[slot < max_length])


def _with_bigrams(tokens: Bags, n_subwords: int, buckets: int) -> Bags:
    """Bags of `tokens`; in each bag the hashed pairs of neighbouring tokens follow the tokens."""
    if buckets == 0:
        return tokens
    lengths = np.diff(tokens.offsets)
    ids = tokens.grains.astype(np.uint64)
    hashes = ids[:-1] * np.uint64(0x9E3779B97F4A7C15) ^ ids[1:]
    hashes = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    pairs = (n_subwords + ((hashes >> np.uint64(32)) % np.uint64(buckets))).astype(np.int32)
    n_pairs = np.maximum(lengths - 1, 0)
    offsets = np.append(0, np.cumsum(lengths + n_pairs))
    is_pair = np.repeat(np.tile([False, True], len(lengths)), np.stack([lengths, n_pairs], axis=1).ravel())
    owner = np.repeat(np.arange(len(lengths)), lengths)
    grains = np.empty(offsets[-1], np.int32)
    grains[~is_pair], grains[is_pair] = tokens.grains, pairs[owner[1:] == owner[:-1]]
    return Bags(offsets, grains)
