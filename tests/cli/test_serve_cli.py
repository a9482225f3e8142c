"""What cannot be served is said by the command, before any process of a server starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cli.called import Call
from mmse.serving import server


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> bool:
        pytest.fail("processes were started")

    monkeypatch.setattr(server, "serve", fail)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "neither a site nor a run folder"),
        (["RUN", "--token-file", "nowhere"], "Cannot read the token"),
        (["RUN", "--host", "256.0.0.1"], "Cannot listen"),
    ],
)
def test_what_cannot_be_served_is_said_before_any_process_starts(
    call: Call, small_run: Path, arguments: list[str], message: str
) -> None:
    done = call("serve", *(small_run if argument == "RUN" else argument for argument in arguments))
    assert done.code == 2
    assert message in done.err
    assert "to mend it:" in done.err
    assert "Traceback" not in done.err


def test_a_port_that_is_taken_is_said(call: Call, small_run: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = call("serve", small_run, "--port", listener.getsockname()[1])
    assert (done.code, "Address already in use" in done.err) == (2, True)
