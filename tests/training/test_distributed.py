"""Two processes train what one would: the same gradients, one model, and a run that outlives one of them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmse.cli import main
from mmse.core.artifact import read_manifest
from mmse.shop import Shop
from mmse.training import distributed
from mmse.training.distributed import Team
from training import pair

PAIR = Path(pair.__file__)
CLOSE = 1e-6


@dataclass(frozen=True)
class ProcessOutput:
    """The results of two processes: gradients and a model in `output`, an unfinished model in `run`, and messages."""

    output: Path
    run: Path
    stderr: str
    exit_code: int


def torchrun(*arguments: str | Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    python_path = os.pathsep.join([str(PAIR.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": python_path, "COLUMNS": "200"}
    environment |= {name: str(value) for name, value in variables.items()}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def dataset(small_shop: Shop) -> Path:
    return small_shop.base.parent / "run" / "dataset"


@pytest.fixture(scope="module")
def single_process(small_shop: Shop, dataset: Path) -> pair.Gradients:
    return pair.Gradients(dataset, small_shop.train)


@pytest.fixture(scope="module")
def two_processes(small_shop: Shop, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> ProcessOutput:
    output, run = tmp_path_factory.mktemp("together"), tmp_path_factory.mktemp("run")
    (run / "dataset").symlink_to(dataset)
    process = torchrun(PAIR, "train", small_shop.path, "--out", run, DATASET=dataset, OUT=output)
    assert (output / "whole").exists(), process.stderr
    return ProcessOutput(output, run, process.stderr, process.returncode)


@pytest.mark.parametrize("name", [*pair.CASES, "single"])
def test_two_processes_have_the_gradients_of_one(
    single_process: pair.Gradients, two_processes: ProcessOutput, name: str
) -> None:
    """Of a batch of 33 requests, which do not come out even, and of a single request."""
    expected_gradients = (
        single_process.of(pair.CASES["mmse"], n_requests=1) if name == "single" else single_process.of(pair.CASES[name])
    )
    rank_0, rank_1 = (load_file(two_processes.output / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert expected_gradients.keys() == rank_0.keys() == rank_1.keys()
    assert float(expected_gradients["totals"][0]) > 0
    for key, gradient in expected_gradients.items():
        assert torch.equal(rank_0[key], rank_1[key]), f"the processes differ in {key}"
        assert (rank_0[key] - gradient).norm() <= CLOSE * gradient.norm(), key


@pytest.mark.parametrize("size", [2, 3, 40])
def test_the_parts_of_a_batch_are_the_batch(single_process: pair.Gradients, size: int) -> None:
    """Also where there are more processes than requests: those without one take the first at a share of 0."""
    encoder, batch = single_process.batch(pair.CASES["mmse"], pair.N_REQUESTS)
    parts = [distributed.take_part(batch, Team(rank, size)) for rank in range(size)]
    assert sum(share for _, share in parts) == pytest.approx(1)
    with_requests = [part for part, share in parts if share > 0]
    assert torch.equal(torch.cat([part.columns for part in with_requests]), batch.columns)
    assert torch.equal(torch.cat([part.exclusions for part in with_requests]), batch.exclusions)
    with torch.no_grad():
        tokens = encoder.towers.token_table()
        items = torch.cat([encoder.towers.embed_items(part.items, tokens) for part, _ in parts])
        queries = torch.cat([encoder.towers.embed_queries(part.queries, tokens)[0] for part in with_requests])
        torch.testing.assert_close(queries, encoder.towers.embed_queries(batch.queries, tokens)[0])
        whole = encoder.towers.embed_items(batch.items, tokens)
        torch.testing.assert_close(items[: len(whole)], whole)
        assert len(items) - len(whole) < size


def test_processes_that_were_started_differently_do_not_train_together(two_processes: ProcessOutput) -> None:
    assert not (two_processes.output / "unlike-0").exists()
    assert "Process 2 of 2 was given another dataset or another config" in (
        two_processes.output / "unlike-1"
    ).read_text("utf-8")


def test_a_killed_process_ends_the_run_with_one_message_and_it_can_be_resumed(
    small_shop: Shop, two_processes: ProcessOutput
) -> None:
    assert two_processes.exit_code != 0
    assert two_processes.stderr.count("to mend it:") == 1, two_processes.stderr
    assert "start the same command with --resume" in two_processes.stderr
    assert not (two_processes.run / "model").exists()
    assert (two_processes.run / ".model.unfinished").is_dir()
    second_run = torchrun("-m", "mmse", "train", small_shop.path, "--out", two_processes.run, "--resume")
    assert second_run.returncode == 0, second_run.stderr
    assert second_run.stdout.count("best epoch") == 1, "one process speaks"
    assert not (two_processes.run / ".model.unfinished").exists()
    manifest = read_manifest(two_processes.run / "model", "model")
    assert manifest.counts["processes"] == 2
    assert manifest.fingerprint == read_manifest(two_processes.output / "whole", "model").fingerprint


def test_no_other_command_is_for_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr("sys.argv", ["mmse", "mine", "shop.toml"])
    with pytest.raises(SystemExit) as error_info:
        main()
    assert error_info.value.code == 2
    assert "only `mmse train` is for several processes" in capsys.readouterr().err
