"""A transformer of no sense and hardly any size, in the folder that a real one would be in."""

from __future__ import annotations

import importlib
import json
import string
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors

WIDTH = 32


def needs_transformers() -> None:
    """Skips the module of tests that calls it where the optional package is missing."""
    pytest.importorskip("transformers", reason="the optional package 'transformers' is not installed")


def write_bert(folder: Path, *, sentences: bool = False) -> Path:
    """Two layers, 32 wide, random weights, a token a character; with `sentences` as a sentence transformer."""
    library: Any = importlib.import_module("transformers")
    characters = string.ascii_lowercase + string.digits
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = [*marks, *characters, *(f"##{one}" for one in characters)]
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({piece: place for place, piece in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(marks)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(5)
    shape = library.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    library.BertModel(shape).save_pretrained(folder)
    if sentences:
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
        (folder / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), "utf-8")
    return folder
