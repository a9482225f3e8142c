"""A pretrained transformer encoder from a folder on disk: its weights, its tokenizer, its way of pooling.

Nothing is fetched and none of the folder's own code is run: weights are read from safetensors alone, architectures are
those that the `transformers` package has.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from mmse.core.errors import UsageError

PACKAGE = "package:"
"""What a path into an installed package begins with."""

_TOGETHER = 64
"""So many texts are embedded at a time, of about the same length."""


@dataclass(frozen=True)
class Pretrained:
    """A transformer without dropout, and the tokenizer that it was trained with. `pooling` is "mean" or "cls"."""

    model: nn.Module
    tokenizer: tokenizers.Tokenizer
    pooling: str

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], max_tokens: int) -> Float32[np.ndarray, "n width"]:
        """A unit-norm vector of each text, of its first `max_tokens` tokens."""
        tokenizer = tokenizers.Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        encoded = [torch.tensor(one.ids or [0]) for one in tokenizer.encode_batch_fast(list(texts))]
        vectors: list[Tensor] = [torch.empty(0)] * len(encoded)
        order = np.argsort([len(ids) for ids in encoded], kind="stable")
        for start in range(0, len(order), _TOGETHER):
            part = order[start : start + _TOGETHER]
            ids = nn.utils.rnn.pad_sequence([encoded[i] for i in part], batch_first=True)
            lengths = torch.tensor([len(encoded[i]) for i in part])
            states = hidden(self.model, ids, lengths)
            pooled = states[:, 0] if self.pooling == "cls" else mean(states, lengths)
            for place, vector in zip(part, nn.functional.normalize(pooled, dim=1), strict=True):
                vectors[place] = vector
        return torch.stack(vectors).numpy()


def open_pretrained(folder: str | Path, key: str, *, sentences: bool = False) -> Pretrained:
    """The encoder in `folder`, or in an installed package (`package:NAME/FOLDER`); `key` of `[train]` names it.

    With `sentences` it has to be a sentence transformer, whose vectors of texts are meant to be compared. Raises
    `UsageError` where the folder is missing, is something else, or `transformers` is not installed.
    """
    place = _place(str(folder), key)
    if not place.is_dir():
        raise UsageError(
            f"train.{key} is '{folder}', but there is no folder {place.absolute()}.",
            "Give the folder that holds the encoder's config.json, tokenizer.json and model.safetensors.",
        )
    if sentences and not (place / "modules.json").is_file():
        raise UsageError(
            f"train.{key} is '{folder}', which is not a sentence transformer: it has no modules.json.",
            "Give the folder that SentenceTransformer.save wrote: a bare language model was not made to compare texts.",
        )
    modules = _modules(place, key)
    inside = place / modules[0]["path"] if modules else place
    if not (inside / "config.json").is_file():
        raise UsageError(
            f"train.{key} is '{folder}', but {inside} has no config.json, so it is no transformer.",
            "Give the folder that save_pretrained wrote.",
        )
    library = _library(key)
    try:
        with _quiet(library.utils.logging):
            model = library.AutoModel.from_pretrained(
                inside, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        tokenizer = _tokenizer(library, inside)
    except Exception as error:  # the libraries raise bare Exception, or their own, for what they cannot parse
        raise UsageError(
            f"train.{key}: cannot read {inside}: {' '.join(str(error).split())[:300]}",
            "Give an encoder that `transformers` knows, with weights in safetensors and a fast tokenizer.",
        ) from error
    return Pretrained(settled(model), tokenizer, _pooling(place, modules))


def shape_of(model: nn.Module) -> dict[str, Any]:
    """The shape of a transformer, as it stands in a `config.json`."""
    config: Any = model.config
    said: dict[str, Any] = config.to_dict()
    return said


def of_shape(said: dict[str, Any]) -> nn.Module:
    """A transformer of the shape `said`, with weights of no meaning."""
    library = _library("text_encoder = 'transformer'")
    shape = dict(said)
    model: nn.Module = library.AutoModel.from_config(
        library.AutoConfig.for_model(shape.pop("model_type"), **shape), trust_remote_code=False
    )
    return settled(model)


def settled(model: nn.Module) -> nn.Module:
    """`model` without the head that reads one position, and without dropout, so that what it gives is repeatable."""
    if getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)
    return model.eval()


def hidden(model: nn.Module, ids: Tensor, lengths: Tensor) -> Tensor:
    """The last hidden states of `ids`, whose rows are `lengths` long and padded with anything."""
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths.unsqueeze(1)
    padding = getattr(model.config, "pad_token_id", None) or 0
    states: Tensor = model(input_ids=ids.masked_fill(~mask, padding), attention_mask=mask.long()).last_hidden_state
    return states


def mean(states: Tensor, lengths: Tensor) -> Tensor:
    """The mean over the first `lengths` states of each row."""
    mask = torch.arange(states.shape[1], device=states.device) < lengths.unsqueeze(1)
    return (states * mask.unsqueeze(2)).sum(dim=1) / lengths.unsqueeze(1)


def _place(folder: str, key: str) -> Path:
    """Where `folder` lies. A package is found and not imported: none of its code runs."""
    if not folder.startswith(PACKAGE):
        return Path(folder).expanduser()
    name, _, inside = folder.removeprefix(PACKAGE).partition("/")
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            f"train.{key} is '{folder}', but no package '{name}' is installed.",
            "Install it where mmse is installed, or give the path of a folder.",
        )
    return Path(next(iter(found.submodule_search_locations))) / inside


def _modules(place: Path, key: str) -> list[dict[str, str]]:
    """The parts of a sentence transformer, the transformer first; none where the folder is of another kind."""
    if not (place / "modules.json").is_file():
        return []
    try:
        said = json.loads((place / "modules.json").read_text("utf-8"))
        return [{"path": str(module["path"]), "type": str(module["type"])} for module in said]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"train.{key}: cannot read {place / 'modules.json'}: {error}.", "Save the sentence transformer again."
        ) from error


def _pooling(place: Path, modules: list[dict[str, str]]) -> str:
    """What the folder's pooling module says; the mean where it says nothing, or what is neither."""
    for module in modules:
        settings = place / module["path"] / "config.json"
        if "Pooling" in module["type"] and settings.is_file():
            said = json.loads(settings.read_text("utf-8"))
            return "cls" if said.get("pooling_mode_cls_token") or said.get("pooling_mode") == "cls" else "mean"
    return "mean"


def _tokenizer(library: Any, place: Path) -> tokenizers.Tokenizer:  # noqa: ANN401
    if (place / "tokenizer.json").is_file():
        return tokenizers.Tokenizer.from_file(str(place / "tokenizer.json"))
    slow = library.AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    return tokenizers.Tokenizer.from_str(slow.backend_tokenizer.to_str())


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:  # noqa: ANN401
    """Without the library's progress bars, which are on stderr wherever it is used."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _library(key: str) -> Any:  # noqa: ANN401
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise UsageError(
            f"train.{key} needs the package 'transformers', which is not installed.",
            "Install it: pip install 'mmse[transformer]'.",
        ) from error
    return transformers
