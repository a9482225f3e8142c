"""A stage runs when what it is made from or how it is made has changed, and says which."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mmse.core.artifact import MANIFEST, verify
from mmse.core.errors import ArtifactError, OutputError, TableError, UsageError
from mmse.core.run_folder import DATASET, INDEX, MODEL, REPORT, VECTORS, RunFolder
from mmse.index.embedding import EmbedConfig
from mmse.pipeline import Listener, make, run
from mmse.shop import Shop, read_shop, shop_of

STEPS = ["dataset", "serving", "model", "baselines/dssm", "vectors", "index", "ranking", "map", "report"]
TABLES = '[items]\nsource = "items.parquet"\n[events]\nsource = "events.parquet"\n'


@dataclass
class Heard:
    """What a run said of its stages."""

    ran: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def listener(self) -> Listener:
        return Listener(step=lambda name, why, runs: (self.ran if runs else self.skipped).update({name: why}))


@pytest.fixture
def copied(small_shop: Shop, small_run: Path, tmp_path: Path) -> tuple[Shop, Path]:
    """The small shop and its finished run, for one test to change; only the run is a copy of its own."""
    shutil.copytree(small_run, tmp_path / "run")
    return small_shop, tmp_path / "run"


def heard(shop: Shop, out: Path) -> Heard:
    said = Heard()
    made = run(shop, out, said.listener)
    assert list(made) == STEPS
    return said


def test_a_second_run_skips_every_stage(copied: tuple[Shop, Path]) -> None:
    said = heard(*copied)
    assert said.ran == {}
    assert list(said.skipped) == STEPS
    assert set(said.skipped.values()) == {"up to date: same inputs, same config"}


def test_what_a_kill_left_beside_a_folder_goes_or_comes_back(copied: tuple[Shop, Path]) -> None:
    shop, out = copied
    (out / "map").rename(out / ".map.former-0123456789abcdef")  # killed before the new one took its place
    shutil.copytree(out / "vectors", out / ".vectors.former-0123456789abcdef")  # killed after it had
    (out / ".index.writing-0123456789abcdef").mkdir()
    assert heard(shop, out).ran == {}, "what was there is whole, and comes back"
    assert not list(out.glob(".*"))


def test_a_run_folder_made_in_one_go_is_whole(small_run: Path) -> None:
    for stage in STEPS:
        kind = "model" if stage.startswith("baselines") else stage
        assert verify(small_run / stage, kind).files
    hidden = [path for path in small_run.rglob(".*") if path.parent.name != "lexical"]  # the library's own are there
    assert not hidden, "nothing is left over"


def test_other_epochs_rerun_the_models_and_what_follows_but_not_mining(copied: tuple[Shop, Path]) -> None:
    shop, out = copied
    said = heard(replace(shop, train=replace(shop.train, epochs=1)), out)
    assert list(said.skipped) == ["dataset", "serving"]
    assert said.ran["model"] == said.ran["baselines/dssm"] == "its config has changed: epochs: 2 → 1"
    assert said.ran["vectors"] == "its input 'model' has changed"
    assert said.ran["index"] == "its input 'model' has changed"
    assert said.ran["report"].startswith("its input ")
    assert heard(replace(shop, train=replace(shop.train, epochs=1)), out).ran == {}


def test_another_index_reruns_the_index_and_the_report(copied: tuple[Shop, Path]) -> None:
    shop, out = copied
    said = heard(replace(shop, index=replace(shop.index, kind="exact")), out)
    assert said.ran == {"index": "its config has changed: kind: ivf → exact", "report": "its input 'index' has changed"}


def test_a_key_inside_a_section_is_named_in_full(copied: tuple[Shop, Path]) -> None:
    shop, out = copied
    config = replace(shop.train, objective=shop.train.objective | {"n_random": 32})
    said = heard(replace(shop, train=config), out)
    assert said.ran["model"] == "its config has changed: objective.n_random: 64 → 32"
    assert "baselines/dssm" in said.skipped, "a baseline has its own objective"


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("items.npy", lambda file: file.write_bytes(b"x"), "items.npy is damaged: expected"),
        ("shopper.npy", lambda file: file.unlink(), "shopper.npy is damaged: expected"),
        (MANIFEST, lambda file: file.write_text("{"), "manifest.json is damaged"),
        (MANIFEST, lambda file: shutil.rmtree(file.parent), "not there yet"),
    ],
)
def test_a_damaged_folder_is_made_again(
    copied: tuple[Shop, Path], file: str, damage: Callable[[Path], object], said: str
) -> None:
    shop, out = copied
    damage(out / "vectors" / file)
    heard_of = heard(shop, out)
    assert said in heard_of.ran["vectors"]
    assert {"dataset", "model"} <= set(heard_of.skipped)
    verify(out / "vectors", "vectors")


def test_touched_events_are_mined_again(small_shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(small_shop.base, tmp_path / "shop")
    shop, out = read_shop(tmp_path / "shop" / "shop.toml"), tmp_path / "run"
    first = make(DATASET, shop, out, Listener())
    file = next((tmp_path / "shop" / "events").glob("*.parquet"))
    os.utime(file, (1, 1))
    said = Heard()
    second = make(DATASET, shop, out, said.listener)
    assert said.ran == {"dataset": "its input 'events' has changed"}
    assert {n: f for n, f in second.files.items() if n != MANIFEST} == first.files, "the same rows, the same files"


def test_a_file_whose_content_alone_was_changed_is_made_again(copied: tuple[Shop, Path]) -> None:
    shop, out = copied
    weights = out / "model" / "towers.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    said = Heard()
    make(MODEL, shop, out, said.listener)
    assert list(said.ran) == ["model"]
    assert "its content is not what was written" in said.ran["model"]
    assert weights.read_bytes() == whole


def test_a_log_without_a_test_window_ends_with_an_index(small_shop: Shop, tmp_path: Path) -> None:
    said = Heard()
    shop = replace(small_shop, mine=replace(small_shop.mine, test_share=0.0), baselines=())
    made = run(shop, tmp_path / "run", said.listener)
    assert "report" not in made
    assert not (tmp_path / "run" / "report").exists()
    assert (tmp_path / "run" / "index" / MANIFEST).is_file()


def test_a_model_of_other_groups_is_not_embedded(copied: tuple[Shop, Path]) -> None:
    shop, out = copied
    make(DATASET, replace(shop, mine=replace(shop.mine, periods=2)), out, Listener())
    with pytest.raises(ArtifactError, match="was made from another dataset") as caught:
        make(VECTORS, shop, out, Listener())
    assert "mmse train" in caught.value.cure
    assert verify(out / "vectors", "vectors"), "the former vectors stay"


def test_vectors_of_the_end_are_not_evaluated(copied: tuple[Shop, Path]) -> None:
    shop, out = copied
    late = replace(shop, embed=EmbedConfig(as_of="end"))
    said = Heard()
    make(VECTORS, late, out, said.listener)
    assert said.ran == {"vectors": "its config has changed: as_of: test → end"}
    make(INDEX, late, out, Listener())
    with pytest.raises(ArtifactError, match="it knows the test window's orders"):
        make(REPORT, late, out, Listener())
    assert heard(shop, out).ran.keys() == {"vectors", "index", "report"}, "the map was never made of the others"


@pytest.mark.parametrize("kind", ["serving", "model", "vectors", "index", "ranking", "map", "report"])
def test_a_step_without_the_one_before(small_shop: Shop, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ArtifactError, match="is not a finished"):
        make(kind, small_shop, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_tables_leave_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(TABLES)
    with pytest.raises(TableError, match=r"items\.parquet"):
        run(read_shop(tmp_path / "shop.toml"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made(small_shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        run(small_shop, tmp_path / "file" / "run")


def test_a_run_knows_its_shop(small_shop: Shop, small_run: Path) -> None:
    assert shop_of(small_run) == replace(small_shop, path=small_shop.path.resolve(), truth=small_shop.truth)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"shop": 3}'])
def test_a_folder_that_does_not_know_its_shop(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (RunFolder(tmp_path).shop).write_text(content)
    with pytest.raises(ArtifactError, match=r"is not a run folder"):
        shop_of(tmp_path)


def test_a_shop_that_is_gone(tmp_path: Path) -> None:
    (RunFolder(tmp_path).shop).write_text(json.dumps({"shop": str(tmp_path / "gone.toml")}))
    with pytest.raises(UsageError, match=r"There is no file .*gone\.toml"):
        shop_of(tmp_path)


@pytest.mark.parametrize(
    ("toml", "said", "cure"),
    [
        (TABLES + "[trian]\nepochs = 1\n", "there is no section [trian]", "Known sections: items, events, truth"),
        ("", "has no section [items]", "Add [items]"),
        (TABLES + "[train]\nepoch = 1\n", "[train]: there is no key 'epoch'", "Did you mean 'epochs'?"),
        (TABLES + "[train]\nepochs = 'x'\n", "[train]: 'epochs': expected `int`, got `str`", "Give a value"),
        (TABLES + "[truth]\n", "[truth]: Object missing required field `source`", "Give a value"),
        (TABLES + '[baselines]\nrecipes = ["bert"]\n', "[baselines]: 'recipes' is 'bert', expected one of", ""),
        ("train = 3\n" + TABLES, "[train]: expected a table of keys and values, found 3", "[train]"),
        (TABLES + "[[train]]\nepochs = 1\n", "[train]: expected a table of keys and values, found [", "[train]"),
    ],
)
def test_a_wrong_shop_names_file_section_and_key(tmp_path: Path, toml: str, said: str, cure: str) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(toml)
    with pytest.raises(UsageError) as caught:
        read_shop(file)
    assert str(file) in caught.value.cause
    assert said in caught.value.cause
    assert cure in caught.value.cure


def test_two_do_not_make_one_run_at_once(copied: tuple[Shop, Path]) -> None:
    shop, out = copied
    for work in (lambda: run(shop, out), lambda: make(INDEX, shop, out)):
        with RunFolder(out).lock(), pytest.raises(OutputError, match=r"Another process is making folders of .*run at"):
            work()
    make(INDEX, shop, out)
