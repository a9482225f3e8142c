"""Text into bags of grains: subwords of a tokenizer trained on the shop's own text, and hashed pairs of them.

Training, evaluation and the query path use the same code. With subwords a mistyped word shares pieces with the right
one; pairs distinguish phrases ("iphone 6", "1/2 in") from their words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Float32, Int32, Int64
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from mmse.core.errors import ArtifactError
from mmse.text.normalise import MAX_CHARACTERS

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

    def encode(self, texts: Sequence[str]) -> Bags:
        """One bag for each text: at most `max_tokens` subwords and their pairs; an empty text gives an empty bag."""
        encodings = self._subwords.encode_batch_fast(
            [text[:MAX_CHARACTERS] for text in texts], add_special_tokens=self._special
        )
        ids = [encoding.ids[: self.max_tokens] for encoding in encodings]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.fromiter((token for bag in ids for token in bag), np.int64, int(lengths.sum()))
        return _with_bigrams(flat, lengths, self.n_subwords, self.bigram_buckets)

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
            return cls(subwords, **json.loads((folder / "grains.json").read_text("utf-8")))
        except Exception as error:  # the library raises bare Exception for what it cannot parse
            raise ArtifactError(f"Cannot read the tokenizer in {folder}: {error}.", "Train the model again.") from error


def document_frequency(bags: Bags, n_grains: int) -> Float32[np.ndarray, " n_grains"]:
    """In how many of `bags` each grain occurs."""
    owner = np.repeat(np.arange(len(bags), dtype=np.int64), np.diff(bags.offsets))
    pairs = np.unique(owner * n_grains + bags.grains)
    return np.bincount(pairs % n_grains, minlength=n_grains).astype(np.float32)


def _with_bigrams(
    tokens: Int64[np.ndarray, " total"], lengths: Int64[np.ndarray, " n"], n_subwords: int, buckets: int
) -> Bags:
    """Bags of `tokens`; in each bag the hashed pairs of neighbouring tokens follow the tokens."""
    if buckets == 0:
        return Bags(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), tokens.astype(np.int32))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    same_bag = owner[1:] == owner[:-1]
    hashes = tokens[:-1].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ tokens[1:].astype(np.uint64)
    hashes = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    pairs = n_subwords + ((hashes >> np.uint64(32)) % np.uint64(buckets)).astype(np.int64)
    grains = np.concatenate([tokens, pairs[same_bag]])
    order = np.argsort(np.concatenate([owner, owner[1:][same_bag]]), kind="stable")
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths + np.maximum(lengths - 1, 0), out=offsets[1:])
    return Bags(offsets, grains[order].astype(np.int32))
