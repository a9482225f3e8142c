"""Towers that begin with what others learned: a token table from a sentence transformer, or a transformer itself."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmse.core.config import build
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.run_folder import INDEX, MODEL, RANKING, VECTORS
from mmse.model.encoder import Encoder
from mmse.model.pretrained_encoder import open_pretrained
from mmse.model.warm_start import TEXT_WEIGHTS, fit_token_table
from mmse.pipeline import Listener, make
from mmse.retrieval.retriever import Retriever
from mmse.shop import Shop, read_shop
from mmse.training.loop import TrainConfig, TrainingStep, train
from mmse.training.setup import create_encoder
from tiny_bert import WIDTH, needs_transformers, write_bert

needs_transformers()

BATCH = 256


class Killed(BaseException):
    """Stands for a kill between two steps."""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"), sentences=True)


def reading(shop: Shop, bert: Path) -> TrainConfig:
    """A transformer reads; few texts a step."""
    return replace(
        shop.train,
        text_encoder="transformer",
        transformer=str(bert),
        bigram_buckets=0,
        epochs=1,
        dim=8,
        batch_requests=BATCH,
        group_size=2,
        max_tokens=12,
        validate_requests=20,
        checkpoint_steps=2,
        objective={"n_random": 8},
    )


def dataset_of(shop: Shop) -> Path:
    return shop.base.parent / "run" / "dataset"


def weights(model: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(model / "towers.safetensors"))


@pytest.fixture(scope="module")
def reading_run(small_shop: Shop, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model reads through a transformer, with vectors and index; the transformer's own folder is gone."""
    base = tmp_path_factory.mktemp("reading")
    shop, run = replace(small_shop, train=reading(small_shop, base / "bert")), base / "run"
    shutil.copytree(bert, base / "bert")
    shutil.copytree(dataset_of(small_shop), run / "dataset")
    make(MODEL, shop, run, Listener())
    shutil.rmtree(base / "bert")
    for kind in (VECTORS, INDEX, RANKING):
        make(kind, shop, run, Listener())
    return run


def test_a_transformer_learns_and_is_kept_with_the_model(reading_run: Path, bert: Path) -> None:
    model_weights, start_weights = (
        weights(reading_run / "model"),
        open_pretrained(bert, "transformer").model.state_dict(),
    )
    changed_names = [
        name
        for name, at_first in start_weights.items()
        if not torch.equal(model_weights[f"transformer.model.{name}"], at_first)
    ]
    assert len(changed_names) > len(start_weights) / 2
    furthest = max(
        (model_weights[f"transformer.model.{name}"] - start_weights[name]).abs().max() for name in changed_names
    )
    assert furthest < 0.01, "it changes far less in a step than what starts from nothing"
    assert "tokens" not in model_weights


def test_such_a_model_is_searched_like_any_other(reading_run: Path) -> None:
    retriever = Retriever.open(reading_run)
    query = retriever.encoder.embed_queries(["phone case"], [None], np.zeros((1, 4), np.int32))
    vectors = retriever.encoder.embed_queries_compiled(["Phone  CASE"], [None], np.zeros((1, 4), np.int32))
    np.testing.assert_allclose(vectors, query, atol=1e-6)
    hits = retriever.search("phone case", k=5)
    assert len(hits) == 5
    assert hits[0].parts.keys() >= {"text", "words"}


def test_a_killed_run_of_a_transformer_goes_on_to_the_same_weights(
    small_shop: Shop, bert: Path, reading_run: Path, tmp_path: Path
) -> None:
    def kill(step: TrainingStep) -> None:
        if step.step == 3:
            raise Killed

    config = reading(small_shop, bert)
    with pytest.raises(Killed):
        train(dataset_of(small_shop), tmp_path / "model", config, on_step=kill)
    steps: list[TrainingStep] = []
    train(dataset_of(small_shop), tmp_path / "model", config, resume=True, on_step=steps.append)
    assert steps[0].step == 3
    whole, resumed_weights = weights(reading_run / "model"), weights(tmp_path / "model")
    assert whole.keys() == resumed_weights.keys()
    assert all(torch.equal(whole[name], resumed_weights[name]) for name in whole)


@pytest.mark.parametrize("name", ["transformer.json", "tokenizer.json"])
def test_a_damaged_model_with_a_transformer_is_refused(reading_run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(reading_run / "model", tmp_path / "model")
    (tmp_path / "model" / name).write_text("{", "utf-8")
    with pytest.raises(ArtifactError, match="Train the model again"):
        Encoder.open(tmp_path / "model")


def test_a_warm_start_is_where_training_begins(small_shop: Shop, bert: Path) -> None:
    def started(config: TrainConfig) -> Encoder:
        torch.manual_seed(0)
        return create_encoder(dataset_of(small_shop), config)[0]

    cold = replace(small_shop.train, dim=WIDTH)
    encoder = started(replace(cold, warm_start=str(bert), warm_texts=0))
    weights = encoder.towers.log_weights.detach().exp().numpy()
    table = fit_token_table(open_pretrained(bert, "warm_start"), encoder.tokenizer, WIDTH, weights, [])
    np.testing.assert_array_equal(encoder.towers.tokens.detach().numpy(), table)
    with_texts = started(replace(cold, warm_start=str(bert), warm_texts=50))
    assert not torch.equal(with_texts.towers.tokens, encoder.towers.tokens), "titles and queries have a say"
    cold_start = started(cold)
    for name, weight in cold_start.towers.named_parameters():
        is_equal = torch.equal(weight, encoder.towers.get_parameter(name))
        assert is_equal == (name != "tokens"), "nothing but the table differs"


def test_a_finished_text_view_has_gone_part_of_the_way_back(small_shop: Shop, bert: Path, tmp_path: Path) -> None:
    dataset = dataset_of(small_shop)
    for share in (0.0, 0.25):
        config = replace(small_shop.train, warm_start=str(bert), warm_texts=100, warm_share=share, epochs=1)
        manifest = train(dataset, tmp_path / str(share), config)
        assert manifest.config["warm_start"] == str(bert)
        assert manifest.counts["validation_recall@100"] > 0.5
        torch.manual_seed(config.seed)
        began = create_encoder(dataset, config)[0].towers.state_dict()
    plain_weights, shared_weights = weights(tmp_path / "0.0"), weights(tmp_path / "0.25")
    for name, weight in plain_weights.items():
        part = 0.25 if name.startswith(TEXT_WEIGHTS) else 0
        torch.testing.assert_close(shared_weights[name], (1 - part) * weight + part * began[name], msg=name)
    assert (plain_weights["tokens"] - began["tokens"]).abs().max() > 0.01


def test_a_relative_path_starts_from_the_shop(small_shop: Shop, tmp_path: Path) -> None:
    toml = tmp_path / "shop.toml"
    for path, resolved_path in (
        ("../bert", str(tmp_path.parent.resolve() / "bert")),
        ("/models/bert", "/models/bert"),
        ("package:some_package/model", "package:some_package/model"),
    ):
        text = small_shop.path.read_text("utf-8").replace("[train]\n", f'[train]\nwarm_start = "{path}"\n')
        toml.write_text(text, "utf-8")
        assert read_shop(toml).train.warm_start == resolved_path


def test_a_folder_that_is_not_there_is_told_before_anything_is_written(small_shop: Shop, tmp_path: Path) -> None:
    for config in (
        replace(small_shop.train, warm_start="no/such/folder"),
        replace(reading(small_shop, Path("no/such/folder"))),
    ):
        with pytest.raises(UsageError, match="there is no folder"):
            train(dataset_of(small_shop), tmp_path / "model", config)
        assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text_encoder": "transformer"}, "'transformer' is None"),
        ({"transformer": "bert"}, "text_encoder is 'transformer', and only there"),
        ({"text_encoder": "transformer", "transformer": "bert", "warm_start": "bert"}, "no token table"),
        ({"text_encoder": "transformer", "transformer": "bert", "bigram_buckets": 4}, "bigram_buckets"),
        ({"text_encoder": "transformer", "transformer": "b", "transformer_learning_rate": -1.0}, "0 .* or more"),
        ({"warm_texts": -1}, "warm_texts"),
        ({"warm_share": 1.5}, "warm_share"),
        ({"text_encoder": "lstm"}, "lstm"),
        ({"fusion": "late"}, "late"),
    ],
)
def test_what_cannot_go_together_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(TrainConfig, values, "shop.toml [train]")
