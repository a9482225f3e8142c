"""What is wrong in a shop.toml is said with the file, the section, the key and what was expected."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from mmse.core.config import build, plain_values, read_toml, require
from mmse.core.errors import UsageError
from mmse.evaluation.offline import EvaluateConfig
from mmse.index import IndexConfig
from mmse.index.embedding import EmbedConfig
from mmse.mining.mine import MineConfig
from mmse.sources.tables import EventsConfig, ItemsConfig
from mmse.training.loop import TrainConfig

STAGES = [ItemsConfig, EventsConfig, MineConfig, TrainConfig, EmbedConfig, IndexConfig, EvaluateConfig]


@dataclass(frozen=True)
class Inner:
    depth: int = 2


@dataclass(frozen=True)
class Oven:
    degrees: int = 180
    minutes: float = 40.0
    fan: bool = True
    mode: Literal["bake", "grill"] = "bake"
    racks: tuple[str, ...] = ("middle",)
    inner: Inner = field(default_factory=Inner)
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 < self.degrees <= 300, "degrees", self.degrees, "1 to 300")


def refused(values: Any, cls: type = Oven) -> UsageError:
    with pytest.raises(UsageError) as error_info:
        build(cls, values, "shop.toml [oven]")
    assert error_info.value.exit_code == 2
    return error_info.value


def test_values_and_defaults() -> None:
    config = build(Oven, {"degrees": 220, "minutes": 35, "racks": ["top", "low"], "inner": {"depth": 3}}, "here")
    assert config == Oven(220, 35.0, racks=("top", "low"), inner=Inner(3))
    assert build(Oven, {}, "here") == Oven()


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("degree", "Did you mean 'degrees'?"),
        ("minuets", "Did you mean 'minutes'?"),
        ("xyz", "Known keys: degrees, minutes, fan, mode, racks, inner, notes."),
        ("", "Known keys: degrees, minutes, fan, mode, racks, inner, notes."),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, hint: str) -> None:
    error = refused({"fan": False, key: 1})
    assert error.cause == f"shop.toml [oven]: there is no key '{key}'."
    assert error.cure == hint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"degrees": "hot"}, "'degrees': expected `int`, got `str`"),
        ({"degrees": 180.5}, "'degrees': expected `int`, got `float`"),
        ({"degrees": True}, "'degrees': expected `int`, got `bool`"),
        ({"fan": 1}, "'fan': expected `bool`, got `int`"),
        ({"racks": "top"}, "'racks': expected `array`, got `str`"),
        ({"racks": ["top", 3]}, "'racks[1]': expected `str`, got `int`"),
        ({"inner": {"depth": "x"}}, "'inner.depth': expected `int`, got `str`"),
        ({"mode": "boil"}, "'mode': invalid enum value 'boil'"),
        ({"notes": []}, "'notes': expected `object`, got `array`"),
    ],
)
def test_a_wrong_type_names_key_and_expectation(values: dict[str, object], message: str) -> None:
    assert refused(values).cause == f"shop.toml [oven]: {message}."


def test_a_value_that_the_class_refuses() -> None:
    assert refused({"degrees": 900}).cause == "shop.toml [oven]: 'degrees' is 900, expected 1 to 300."
    with pytest.raises(ValueError, match="'degrees' is 0, expected 1 to 300"):
        Oven(degrees=0)


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (TrainConfig, {"epochs": 0}, "'epochs' is 0, expected at least 1"),
        (TrainConfig, {"recipe": "bert"}, "'recipe' is 'bert', expected one of mmse, "),
        (
            MineConfig,
            {"valid_share": 0.6, "test_share": 0.4},
            "'valid_share + test_share' is 1.0, expected less than 1",
        ),
        (EmbedConfig, {"as_of": "now"}, "'as_of': invalid enum value 'now'"),
        (IndexConfig, {"kind": "hnsw"}, "'kind' is 'hnsw', expected 'exact' or 'ivf'"),
        (EvaluateConfig, {"draws": 3}, "'draws' is 3, expected at least 20"),
        (EventsConfig, {"columns": {"qery": "q"}}, "qery"),
    ],
)
def test_what_the_stages_refuse(cls: type, values: dict[str, object], message: str) -> None:
    assert message in refused(values, cls).cause


def test_an_unknown_key_of_a_section_within() -> None:
    with pytest.raises(UsageError) as error:
        build(Oven, {"inner": {"dept": 3}}, "shop.toml [oven]")
    assert str(error.value).startswith("shop.toml [oven] [inner]: there is no key 'dept'.")
    assert "'depth'" in error.value.cure


def test_an_unknown_key_of_the_objective() -> None:
    error = refused({"objective": {"n_randon": 3}}, TrainConfig)
    assert error.cause == "[train.objective]: there is no key 'n_randon'."
    assert error.cure == "Did you mean 'n_random'?"


@pytest.mark.parametrize("cls", [Oven, *STAGES])
def test_plain_keeps_every_key_of_built_configs(cls: type) -> None:
    """The converter leaves out the defaults of what it converted itself, and a manifest has to hold them."""
    default_values, config = plain_values(cls()), plain_values(build(cls, {}, "here"))
    assert config == default_values
    assert list(config) == list(cls.__dataclass_fields__)  # type: ignore[attr-defined]
    assert json.loads(json.dumps(config)) == json.loads(json.dumps(default_values))


@pytest.mark.parametrize("cls", [Oven, *STAGES])
def test_plain_and_back(cls: type) -> None:
    config: object = build(cls, {}, "here")
    assert build(cls, json.loads(json.dumps(plain_values(config))), "here") == config


def test_toml_is_read(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('[items]\nsource = "größe.csv"\n', "utf-8")
    assert read_toml(file) == {"items": {"source": "größe.csv"}}


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('[items]\nsource = "a"\ncolumns = {\n')
    with pytest.raises(UsageError, match=r"shop\.toml is not valid TOML: .*line 3") as error_info:
        read_toml(file)
    assert str(file) in error_info.value.cause


@pytest.mark.parametrize(("content", "line"), [(b'[items]\nsource = "caf\xe9"\n', 2), (b"\xff\xfe[", 1)])
def test_toml_in_another_encoding_names_file_and_line(tmp_path: Path, content: bytes, line: int) -> None:
    file = tmp_path / "shop.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=rf"shop\.toml is not valid TOML: .*line {line}"):
        read_toml(file)


@pytest.mark.parametrize("content", ["a = " + "[" * 5_000, "a = " + "9" * 5_000])
def test_what_the_library_cannot_hold_is_no_valid_toml(tmp_path: Path, content: str) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(content, "utf-8")
    with pytest.raises(UsageError, match=r"shop\.toml is not valid TOML"):
        read_toml(file)


@pytest.mark.parametrize("name", ["nothing.toml", ""])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        read_toml(tmp_path / name)
