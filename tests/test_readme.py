"""What the README tells a newcomer to type works."""

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmse.cli.main import app

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def newcomer(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished demo, in which the README's lines are typed."""
    (tmp_path / "demo").mkdir()
    shutil.copytree(small_run, tmp_path / "demo" / "run")
    (tmp_path / "shop.toml").write_bytes((small_run.parent / "shop" / "shop.toml").read_bytes())
    for name in ("items.parquet", "events", "truth"):
        (tmp_path / name).symlink_to(small_run.parent / "shop" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("newcomer")
def test_the_commands_work() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("mmse ")]
    assert len(lines) >= 3
    for line in lines:
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        assert result.output


@pytest.mark.usefixtures("newcomer")
def test_the_python_works() -> None:
    for block in blocks("python"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(block, {})
        assert len(printed.getvalue().splitlines()) == 3


def test_what_it_links_to_exists() -> None:
    for link in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (Path(__file__).parent.parent / link).exists(), link
