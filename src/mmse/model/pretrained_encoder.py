"""A pretrained transformer encoder from a folder on disk: its weights, its tokenizer and its pooling.

Nothing is fetched, and no code of the folder is run: weights are read from safetensors alone, and only architectures of
the `transformers` package are accepted.
"""

from __future__ import annotations

import importlib
import importlib.util
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
from mmse.core.json_files import parse_json

PACKAGE = "package:"
"""The prefix of a path into an installed package."""

_BATCH_TEXTS = 64
"""How many texts, of about the same length, are embedded at a time."""


@dataclass(frozen=True)
class PretrainedEncoder:
    """A transformer without dropout, and the tokenizer it was trained with. `pooling` is "mean" or "cls"."""

    model: nn.Module
    tokenizer: tokenizers.Tokenizer
    pooling: str

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], max_tokens: int) -> Float32[np.ndarray, "n width"]:
        """A unit-norm vector of each text, from its first `max_tokens` tokens."""
        tokenizer = tokenizers.Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        token_ids = [torch.tensor(encoding.ids or [0]) for encoding in tokenizer.encode_batch_fast(list(texts))]
        vectors: list[Tensor] = [torch.empty(0)] * len(token_ids)
        order = np.argsort([len(ids) for ids in token_ids], kind="stable")
        for start in range(0, len(order), _BATCH_TEXTS):
            part = order[start : start + _BATCH_TEXTS]
            ids = nn.utils.rnn.pad_sequence([token_ids[i] for i in part], batch_first=True)
            lengths = torch.tensor([len(token_ids[i]) for i in part])
            states = compute_states(self.model, ids, lengths)
            pools = states[:, 0] if self.pooling == "cls" else average_states(states, lengths)
            for row, vector in zip(part, nn.functional.normalize(pools, dim=1), strict=True):
                vectors[row] = vector
        return torch.stack(vectors).numpy()


def open_pretrained(folder: str | Path, key: str, *, sentences: bool = False) -> PretrainedEncoder:
    """The encoder in `folder`, or in an installed package (`package:NAME/FOLDER`).

    `key` is the key of `[train]` that names it, for messages. With `sentences` it must be a sentence transformer, which
    is trained so that vectors of texts can be compared. Raises `UsageError` where the folder is missing or holds
    something else, or where `transformers` is not installed.
    """
    path = _resolve(str(folder), key)
    if not path.is_dir():
        raise UsageError(
            f"train.{key} is '{folder}', but there is no folder {path.absolute()}.",
            "Give the folder that holds the encoder's config.json, tokenizer.json and model.safetensors.",
        )
    if sentences and not (path / "modules.json").is_file():
        raise UsageError(
            f"train.{key} is '{folder}', which is not a sentence transformer: it has no modules.json.",
            "Give the folder that SentenceTransformer.save wrote: a bare language model was not made to compare texts.",
        )
    modules = _read_modules(path, key)
    transformer_folder = path / modules[0]["path"] if modules else path
    if not (transformer_folder / "config.json").is_file():
        raise UsageError(
            f"train.{key} is '{folder}', but {transformer_folder} has no config.json, so it is no transformer.",
            "Give the folder that save_pretrained wrote.",
        )
    library = _import_transformers(key)
    try:
        with _hide_progress_bars(library.utils.logging):
            model = library.AutoModel.from_pretrained(
                transformer_folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
            )
        tokenizer = _open_tokenizer(library, transformer_folder)
    except Exception as error:  # the libraries raise bare Exception, or their own, for what they cannot parse
        raise UsageError(
            f"train.{key}: cannot read {transformer_folder}: {' '.join(str(error).split())[:300]}",
            "Give an encoder that `transformers` knows, with weights in safetensors and a fast tokenizer.",
        ) from error
    return PretrainedEncoder(disable_dropout(model), tokenizer, _read_pooling(path, modules))


def read_shape(model: nn.Module) -> dict[str, Any]:
    """The shape of a transformer, as in its `config.json`."""
    config: Any = model.config
    shape: dict[str, Any] = config.to_dict()
    return shape


def build_from_shape(shape: dict[str, Any]) -> nn.Module:
    """A transformer of `shape` with random weights."""
    library = _import_transformers("text_encoder = 'transformer'")
    settings = dict(shape)
    model: nn.Module = library.AutoModel.from_config(
        library.AutoConfig.for_model(settings.pop("model_type"), **settings), trust_remote_code=False
    )
    return disable_dropout(model)


def disable_dropout(model: nn.Module) -> nn.Module:
    """`model` without its pooling head and without dropout, so that its output is repeatable."""
    if getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)
    return model.eval()


def compute_states(model: nn.Module, ids: Tensor, lengths: Tensor) -> Tensor:
    """The last hidden states of `ids`; row i has `lengths[i]` tokens, and the values after them do not matter."""
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths.unsqueeze(1)
    padding = getattr(model.config, "pad_token_id", None) or 0
    states: Tensor = model(input_ids=ids.masked_fill(~mask, padding), attention_mask=mask.long()).last_hidden_state
    return states


def average_states(states: Tensor, lengths: Tensor) -> Tensor:
    """The mean over the first `lengths` states of each row."""
    mask = torch.arange(states.shape[1], device=states.device) < lengths.unsqueeze(1)
    return (states * mask.unsqueeze(2)).sum(dim=1) / lengths.unsqueeze(1)


def _resolve(folder: str, key: str) -> Path:
    """The path of `folder`. A package is located without importing it, so none of its code runs."""
    if not folder.startswith(PACKAGE):
        return Path(folder).expanduser()
    name, _, subfolder = folder.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"train.{key} is '{folder}', but no package '{name}' is installed.",
            "Install it where mmse is installed, or give the path of a folder.",
        )
    return Path(next(iter(spec.submodule_search_locations))) / subfolder


def _read_modules(folder: Path, key: str) -> list[dict[str, str]]:
    """The modules of a sentence transformer, the transformer first; none for any other folder."""
    if not (folder / "modules.json").is_file():
        return []
    try:
        modules = parse_json((folder / "modules.json").read_text("utf-8"))
        return [{"path": str(module["path"]), "type": str(module["type"])} for module in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"train.{key}: cannot read {folder / 'modules.json'}: {error}.", "Save the sentence transformer again."
        ) from error


def _read_pooling(folder: Path, modules: list[dict[str, str]]) -> str:
    """The pooling of the folder's pooling module: "cls" or "mean"; "mean" where it names neither."""
    for module in modules:
        settings = folder / module["path"] / "config.json"
        if "Pooling" in module["type"] and settings.is_file():
            content = parse_json(settings.read_text("utf-8"))
            return "cls" if content.get("pooling_mode_cls_token") or content.get("pooling_mode") == "cls" else "mean"
    return "mean"


def _open_tokenizer(library: Any, folder: Path) -> tokenizers.Tokenizer:  # noqa: ANN401
    if (folder / "tokenizer.json").is_file():
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    slow = library.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return tokenizers.Tokenizer.from_str(slow.backend_tokenizer.to_str())


@contextmanager
def _hide_progress_bars(library_logging: Any) -> Iterator[None]:  # noqa: ANN401
    """Turns the library's progress bars on stderr off for a while."""
    was_enabled = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            library_logging.enable_progress_bar()


def _import_transformers(key: str) -> Any:  # noqa: ANN401
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise UsageError(
            f"train.{key} needs the package 'transformers', which is not installed.",
            "Install it: pip install 'mmse[transformer]'.",
        ) from error
    return transformers
