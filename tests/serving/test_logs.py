"""Log lines: one line each, with the request's id, and no query unless asked."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmse.core.errors import UsageError
from mmse.serving.observability import logs


@pytest.fixture
def loggers() -> Iterator[None]:
    """Puts logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def in_request() -> Iterator[None]:
    token = logs.request_id.set("r1")
    yield
    logs.request_id.reset(token)


def lines(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.usefixtures("loggers", "in_request")
def test_a_json_line_has_time_level_logger_message_and_request(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True, level="info")
    logging.getLogger("mmse.somewhere").info("took %s in", 3, extra={"items": 3, "folder": Path("site")})
    (line,) = lines(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "mmse.somewhere",
        "message": "took 3 in",
        "request_id": "r1",
        "items": 3,
        "folder": "site",
    }


@pytest.mark.usefixtures("loggers")
def test_a_request_id_that_is_given_counts_and_none_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True, level="info")
    logging.getLogger("mmse").error("a", extra={"request_id": "r7"})
    logging.getLogger("mmse").error("b")
    first, second = lines(capsys)
    assert first["request_id"] == "r7"
    assert "request_id" not in second


@pytest.mark.usefixtures("loggers")
def test_an_exception_is_a_field_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True, level="info")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("mmse").exception("failed")
    (line,) = lines(capsys)
    assert line["message"] == "failed"
    assert "ValueError: two\nlines" in line["exception"]
    assert "Traceback" in line["exception"]


@pytest.mark.usefixtures("loggers")
def test_extra_fields_do_not_pass_for_ours(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True, level="info")
    logging.getLogger("mmse").info("true", extra={"level": "error", "time": "never", "logger": "other"})
    (line,) = lines(capsys)
    assert (line["level"], line["logger"]) == ("info", "mmse")
    assert line["time"] != "never"


@pytest.mark.usefixtures("loggers")
def test_levels_below_are_left_out_and_warnings_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True, level="WARNING")
    logging.getLogger("mmse").info("not this")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("old ways", UserWarning, "f.py", 1)
    (line,) = lines(capsys)
    assert line["logger"] == "py.warnings"
    assert "old ways" in line["message"]


@pytest.mark.usefixtures("loggers", "in_request")
def test_a_plain_line_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=False, level="info")
    logging.getLogger("mmse.pool").info("now serving %s", "v2", extra={"arm": "live"})
    assert capsys.readouterr().err[8:] == " info    mmse.pool: now serving v2 arm=live request_id=r1\n"


@pytest.mark.usefixtures("loggers")
def test_what_is_logged_cannot_forge_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=False, level="info")
    logging.getLogger("mmse").info("query %s", "a\n12:00:00 error mmse: all is lost\x1b[31m", extra={"q": "x\ry"})
    (line,) = capsys.readouterr().err.splitlines()
    assert "a\\n12:00:00" in line
    assert "\\x1b[31m" in line
    assert "q=x\\ry" in line


@pytest.mark.usefixtures("loggers")
def test_configured_twice_a_line_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True, level="info")
    logs.configure(json=True, level="info")
    logging.getLogger("mmse").info("once")
    assert len(lines(capsys)) == 1


def test_a_level_that_is_none() -> None:
    with pytest.raises(UsageError, match="loud"):
        logs.configure(json=True, level="loud")


def test_importing_it_changes_nothing() -> None:
    import subprocess

    code = "import logging, mmse.serving.observability.logs; print(logging.getLogger().handlers)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
