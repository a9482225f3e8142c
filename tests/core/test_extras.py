"""What is not installed is named, with the command that installs it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mmse.core import extras
from mmse.core.errors import UsageError
from mmse.core.extras import EXTRAS, extra_of, is_installed, require_extra

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_extra_is_one_that_pip_knows() -> None:
    assert EXTRAS.keys() | {"all", "dev"} == PROJECT["optional-dependencies"].keys()


def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "plotly" else object())
    assert not is_installed("report")
    assert is_installed("serve")
    require_extra("serve")
    with pytest.raises(UsageError) as error_info:
        require_extra("report")
    assert error_info.value.cause == "The report as a page needs plotly."
    assert error_info.value.cure == "Install it: pip install 'mmse[report]'."


@pytest.mark.parametrize(
    ("module", "name"), [("granian.constants", "serve"), ("openTSNE", "map"), ("numpy", None), (None, None)]
)
def test_the_extra_of_a_module(module: str | None, name: str | None) -> None:
    extra = extra_of(module)
    assert (extra.name if extra else None) == name
