"""The commands as a user meets them: results on stdout, the rest on stderr, failures as a cause and a cure."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.called import Call, Done
from mmse import __version__
from mmse.core.artifact import verify
from mmse.core.errors import UsageError
from mmse.shop import Shop
from mmse.training.targets import read_logged_requests

COMMANDS = [
    "demo",
    "init",
    "doctor",
    "simulate",
    "run",
    "mine",
    "train",
    "embed",
    "index",
    "rank",
    "map",
    "search",
    "evaluate",
]
ROW = ["system", "target", "slice", "metric", "k", "value", "low", "high", "queries"]
DIFFERENCE = ["system", "versus", "target", "slice", "metric", "k", "value", "low", "high", "significant"]
COMMAND_LINE = [sys.executable, "-c", "from mmse.cli import main; main()"]


@pytest.fixture
def copied(small_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_run, tmp_path / "run")
    return tmp_path / "run"


def failed(done: Done, code: int, cause: str, cure: str) -> None:
    """A failure is two lines on stderr, and nothing else anywhere."""
    assert done.code == code
    assert done.out == ""
    first, second = done.err.splitlines()
    assert first.startswith("error: ")
    assert cause in first
    assert second.startswith("to mend it: ")
    assert cure in second
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(call: Call, command: str) -> None:
    done = call(command, "--help")
    assert done.code == 0
    assert f"mmse {command}" in re.split(r"Examples?:", done.out, maxsplit=1)[1]
    assert done.err == ""


def test_the_help_names_every_command(call: Call) -> None:
    done = call("--help")
    assert done.code == 0
    assert all(re.search(rf"^\W*{command} ", done.out, re.MULTILINE) for command in COMMANDS)


def test_the_version(call: Call) -> None:
    assert call("--version") == Done(0, f"mmse {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["serch"],
        ["search"],
        ["run"],
        ["search", "run", "x", "-k", "0"],
        ["search", "run", "x", "-k", "many"],
        ["demo", "--items", "3"],
        ["run", "shop.toml", "--thread", "1"],
    ],
)
def test_wrong_usage(call: Call, arguments: Sequence[str]) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Error" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", ["run", "mine", "train", "embed", "index"])
def test_a_missing_shop(call: Call, tmp_path: Path, command: str) -> None:
    done = call(command, tmp_path / "shop.toml")
    failed(done, 2, f"There is no file {tmp_path / 'shop.toml'}.", "mmse demo --help")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["search", "RUN", "tent"], ["evaluate", "RUN"]])
def test_a_missing_run(call: Call, tmp_path: Path, arguments: list[str]) -> None:
    run = tmp_path / "[bold]:heart:" / "no run"
    done = call(*[str(run) if word == "RUN" else word for word in arguments])
    failed(done, 2, str(run), "")


@pytest.mark.parametrize(
    ("arguments", "cause", "cure"),
    [
        (["search", "RUN", "  "], "The query is empty.", "at least one word"),
        (["train", "SHOP", "--recipe", "bert"], "'recipe' is 'bert', expected one of mmse", "Give a value"),
        (["embed", "SHOP", "--as-of", "now"], "'as_of'", "Give a value"),
        (["index", "SHOP", "--kind", "hnsw"], "'kind' is 'hnsw', expected 'exact' or 'ivf'", "Give a value"),
        (["evaluate", "RUN", "--split", "dev"], "--split go with --judgements", "Name the judgements file"),
        (["evaluate", "RUN", "--judgements", "SHOP"], "needs --relevant-from", "Give the grade"),
        (["evaluate", "RUN", "--judgements", "none.csv", "--relevant-from", "1"], "no file none.csv", "judgements"),
        (["simulate", "OUT", "--items", "SHOP"], "--items and --judgements go together", "Give both"),
        (["simulate", "TAKEN"], "is not a folder that mmse made", "Choose another output folder"),
    ],
)
def test_what_a_command_refuses(
    call: Call, small_shop: Shop, small_run: Path, tmp_path: Path, arguments: list[str], cause: str, cure: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    places = {"RUN": small_run, "SHOP": small_shop.path, "OUT": tmp_path / "out", "TAKEN": tmp_path / "taken"}
    done = call(*[places.get(word, word) for word in arguments])
    assert "Traceback" not in done.err
    failed(done, 2, cause, cure)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(call: Call, small_shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("mine", small_shop.path, "--out", tmp_path / "file" / "run")
    failed(done, 1, "Cannot write", "Choose an output folder")


def test_a_fault_of_ours(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("[red] is not what was meant")

    monkeypatch.setattr("mmse.shop.read_shop", fail)
    done = call("run", "shop.toml")
    assert (done.code, done.out) == (1, "")
    first, second = done.err.splitlines()
    assert first == "error: RuntimeError: [red] is not what was meant"
    assert second.startswith("This is a fault of mmse.")


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_lets_the_failure_through(call: Call, tmp_path: Path, place: int) -> None:
    arguments = ["run", str(tmp_path / "shop.toml"), "--threads", "1"]
    arguments.insert(place, "--debug")
    with pytest.raises(UsageError, match="There is no file"):
        call(*arguments)


def test_ctrl_c_says_what_is_kept(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmse.shop.read_shop", interrupt)
    done = call("run", "shop.toml")
    assert done == Done(1, "", "Interrupted. Finished steps are kept; the same command goes on from there.\n")


def test_a_real_ctrl_c_keeps_finished_steps(small_shop: Shop, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(small_shop.base, shop)
    toml = (shop / "shop.toml").read_text().replace("epochs = 2", "epochs = 10000")
    (shop / "shop.toml").write_text(toml)
    command = [*COMMAND_LINE, "run", str(shop / "shop.toml"), "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        assert child.stdout
        heard = []
        for line in child.stderr:
            heard.append(line)
            if line.strip().startswith("epoch 1:"):
                child.send_signal(signal.SIGINT)
                break
        out, rest = child.communicate(timeout=60)
    assert child.returncode == 1, heard
    assert out == ""
    assert rest.rstrip().endswith("Interrupted. Finished steps are kept; the same command goes on from there.")
    assert "Traceback" not in rest
    verify(shop / "run" / "dataset", "dataset")
    assert not (shop / "run" / "model").exists()


def test_a_process_of_its_own(small_run: Path, tmp_path: Path) -> None:
    """Bytes that are no text for a query, and a failure: what a shell sees."""
    query = b"caf\xe9 \xff stove"
    search: list[bytes | str] = [*COMMAND_LINE, "search", str(small_run), query, "--json", "--user", b"\xfc"]
    done = subprocess.run(search, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    said = json.loads(done.stdout)
    assert (said["query"], said["user_id"], len(said["hits"])) == ("caf? ? stove", "?", 10)
    done = subprocess.run([*COMMAND_LINE, "search", str(tmp_path), "x"], capture_output=True, check=False)
    failed(Done(done.returncode, done.stdout.decode(), done.stderr.decode()), 2, str(tmp_path), "check the path")


def test_search_as_json(call: Call, small_run: Path) -> None:
    logged = read_logged_requests(small_run / "dataset", "test", 20)
    user = next(user for user in logged.users if user)
    done = call("search", small_run, logged.queries[0], "-k", 7, "--user", user, "--json")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    answer = ["hits", "no_good_match", "redirect_url", "rules", "version", "facets", "notes", "corrected_from"]
    assert list(said) == ["query", "user_id", *answer, "searched_for"]
    assert (said["query"], said["user_id"], len(said["hits"])) == (logged.queries[0], user, 7)
    keys = ["rank", "item_id", "title", "score", "probability", "parts", "matched", "moved_by", "item"]
    keys += ["named", "variants", "reason"]
    assert all(list(hit) == keys for hit in said["hits"])
    assert [hit["rank"] for hit in said["hits"]] == list(range(1, 8))


@pytest.mark.parametrize("query", ["camping stove", "🎧 [bold] :heart:", "x" * 10_000, "--", "\n stove"])
def test_any_query_comes_back_in_json(call: Call, small_run: Path, query: str) -> None:
    done = call("search", "--json", small_run, "-k", 3, "--", query)
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert said["query"] == query
    assert said["user_id"] is None
    assert len(said["hits"]) == 3


def test_search_as_a_table(call: Call, small_run: Path) -> None:
    done = call("search", small_run, ":heart: [bold]stove[/bold]", "-k", 2)
    assert (done.code, done.err) == (0, "")
    assert "“:heart: [bold]stove[/bold]”" in done.out
    for word in ("item", "score", "text", "why", "%"):
        assert word in done.out


def test_evaluate_as_json(call: Call, small_run: Path) -> None:
    done = call("evaluate", small_run, "--json")
    assert done.code == 0
    said = json.loads(done.out)
    assert list(said) == ["rows", "differences"]
    assert all(list(row) == ROW for row in said["rows"])
    assert all(list(difference) == DIFFERENCE for difference in said["differences"])
    assert {"mmse", "dssm", "bm25", "popularity"} <= {row["system"] for row in said["rows"]}
    assert "skip report" in done.err


def test_evaluate_as_a_table(call: Call, small_run: Path) -> None:
    done = call("evaluate", small_run)
    assert done.code == 0
    assert "recall@100" in done.out
    assert done.out.splitlines()[-1] == f"Report: {small_run / 'report' / 'report.html'}"
    assert "report" in done.err


def test_evaluate_on_judgements(call: Call, copied: Path, tmp_path: Path) -> None:
    item = json.loads(call("search", copied, "camping stove", "-k", 1, "--json").out)["hits"][0]
    grades = tmp_path / "grades [1].csv"
    grades.write_text(f"query,item_id,relevance\ncamping stove,{item['item_id']},3\n")
    done = call("evaluate", copied, "--judgements", grades, "--relevant-from", 3, "--json")
    assert done.code == 0
    rows = {(row["system"], row["metric"], row["k"]): row["value"] for row in json.loads(done.out)["rows"]}
    assert rows["mmse", "recall", 10] == rows["mmse", "mrr", 10] == 1
    done = call("evaluate", copied, "--judgements", grades, "--relevant-from", 3)
    assert done.out.splitlines()[-1] == f"Report: {copied / 'report-grades [1]' / 'report.html'}"


def test_run_says_what_it_skips_and_shows_the_result(call: Call, small_shop: Shop, copied: Path) -> None:
    done = call("run", small_shop.path, "--out", copied, "--threads", 1)
    assert done.code == 0
    assert "recall@100" in done.out
    assert "What to try next" in done.out
    assert re.findall(r"^(\w+) +(\S+) \(up to date", done.err, re.MULTILINE) == [
        ("skip", name)
        for name in ("dataset", "serving", "model", "baselines/dssm", "vectors", "index", "ranking", "map", "report")
    ]
    assert "up to date" not in done.out


@pytest.mark.parametrize(
    ("arguments", "stage", "said"),
    [(["index", "--kind", "exact"], "index", "kind: ivf → exact"), (["embed", "--as-of", "end"], "vectors", "as_of")],
)
def test_an_option_overrides_the_shop(
    call: Call, small_shop: Shop, copied: Path, arguments: list[str], stage: str, said: str
) -> None:
    done = call(arguments[0], small_shop.path, "--out", copied, *arguments[1:])
    assert done.code == 0
    assert f"run  {stage}" in done.err
    assert said in done.err
    assert "items" in done.out
    verify(copied / stage, stage)


def test_simulate_then_mine(call: Call, tmp_path: Path) -> None:
    shop = tmp_path / "a [fine] shop"
    done = call("simulate", shop, "--n-items", 100, "--n-requests", 200, "--seed", 5)
    assert done.code == 0
    assert done.out.splitlines()[-1].endswith(f"Next: mmse run {shop / 'shop.toml'}")
    done = call("mine", shop / "shop.toml")
    assert done.code == 0
    assert "requests" in done.out
    verify(shop / "run" / "dataset", "dataset")
