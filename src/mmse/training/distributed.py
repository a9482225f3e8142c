"""Several processes train one model: each step's batch is divided among them, with the gradient of the whole batch.

Every process draws the same whole batch, takes its part of the requests and of the distinct items, and embeds them.
The item vectors are gathered, so that every request is compared with the whole pool. Losses are means over requests; a
process's loss is weighted by its share of the requests. The gradient of a gathered vector goes back to the process that
embedded it. The gradients of all processes are added, and the sum is the gradient of the whole batch.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from mmse.core.errors import MmseError, UsageError
from mmse.model.bags import BagIndex
from mmse.model.inputs import ItemInputs, QueryInputs
from mmse.text.tokenizer import Bags
from mmse.training.batches import Batch

_TIMEOUT = timedelta(hours=2)
"""How long a process waits for another, validation included. A process that has died is noticed at once."""

_START_TIMEOUT = timedelta(minutes=10)
"""How long a process waits for all others to start."""

_CURE = "See which one failed first and why, then start the same command with --resume: the last checkpoint is kept."

Inputs = TypeVar("Inputs", QueryInputs, ItemInputs)


class ProcessLost(MmseError):
    """Another process of this run has died, or can no longer be reached."""

    exit_code = 1


@dataclass(frozen=True)
class Team:
    """The processes of a run, and the `rank` of this one among them. The first one `leads`: it alone writes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and the model, and validates."""
        return self.rank == 0

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """The leader's `values`, on every process. All processes wait here for the leader."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        with _report_lost_process():
            dist.broadcast(tensor, src=0)
        return tensor.tolist()

    def wait(self) -> None:
        """Waits until the leader gets here, too."""
        self.broadcast([0.0])


class Totals(NamedTuple):
    """The losses of a step over all processes, and the training time so far by the leader's clock."""

    loss: float
    retrieval: float
    ranking: float
    seconds: float


def current_team() -> Team:
    """The team of this process: PyTorch's default process group, or this process alone."""
    return Team(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Team()


@contextmanager
def join_team() -> Iterator[Team]:
    """The team of the processes that `torchrun` started, or this process alone.

    If several processes fail together, the first one raises its error and the others only exit with its exit code, so
    that a failure is reported once.
    """
    if not dist.is_torchelastic_launched():
        yield current_team()
        return
    with _report_lost_process():
        root_store, rank, size = next(rendezvous("env://", timeout=_START_TIMEOUT))
        # started again after a failure, the processes must not read what the former ones left in the same store
        store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], root_store)
        dist.init_process_group(store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end_on_signal)
    try:
        yield current_team()
    except BaseException as error:
        failed_first = True
        with suppress(RuntimeError):  # the process that keeps the store may be gone, too
            failed_first = store.add("failed", 1) == 1
        if failed_first:
            raise
        raise SystemExit(getattr(error, "exit_code", 1)) from error
    dist.destroy_process_group()


def choose_device(name: str, team: Team) -> torch.device:
    """The device that `TrainConfig.device` names; on CUDA each process of a machine gets its own device.

    Raises `UsageError` where there is no such device.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("train.device is 'cuda', but there is no CUDA device.", "Use 'cpu' or 'auto'.")
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"train.device is '{name}': {error}.", "Use 'cpu', 'cuda' or 'auto'.") from error
    if device.type != "cuda" or team.size == 1:
        return device
    local_rank, n_devices = dist.get_node_local_rank(team.rank), torch.cuda.device_count()
    if local_rank >= n_devices:
        raise UsageError(
            f"This is process {local_rank + 1} on a machine with {n_devices} CUDA devices.",
            f"Start it with --nproc-per-node {n_devices}, or set train.device to 'cpu'.",
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def require_same_run(identity: str, team: Team) -> None:
    """Raises `UsageError` where this process was started with another `identity` (a hex digest) than the leader."""
    identity_bytes = [float(byte) for byte in bytes.fromhex(identity)]
    if team.broadcast(identity_bytes) != identity_bytes:
        raise UsageError(
            f"Process {team.rank + 1} of {team.size} was given another dataset or another config than the first one.",
            "Start all processes with the same command, on the same files.",
        )


def take_part(batch: Batch, team: Team) -> tuple[Batch, float]:
    """This process's part of `batch`, and its share of the requests.

    The part holds only the items that this process embeds, but its `columns` and `negatives` are still indices into
    all items of the batch, which `make_gather` brings together. All parts have the same number of items; the last item
    is repeated to fill them up. A process without a request takes the first one, with a share of 0.
    """
    if team.size == 1:
        return batch, 1.0
    requests: Int64[np.ndarray, " own"] = np.array_split(np.arange(len(batch)), team.size)[team.rank]
    share = len(requests) / len(batch)
    requests = requests if len(requests) else np.zeros(1, np.int64)
    n_items = -(-len(batch.items) // team.size)
    items = np.arange(n_items * team.rank, n_items * (team.rank + 1)).clip(max=len(batch.items) - 1)
    request_index = torch.from_numpy(requests)
    return replace(
        batch,
        queries=_take_rows(batch.queries, requests),
        items=_take_rows(batch.items, items),
        columns=batch.columns[request_index],
        stages=batch.stages[request_index],
        weights=batch.weights[request_index],
        examination=batch.examination[request_index],
        exclusions=batch.exclusions[request_index],
    ), share


def make_gather(batch: Batch, team: Team) -> Callable[[Tensor], Tensor]:
    """A function from this process's item vectors to those of the whole `batch`, in order; gradients flow back."""
    if team.size == 1:
        return lambda items: items
    n = len(batch.items)

    def gather(items: Float[Tensor, "own views dim"]) -> Float[Tensor, "all views dim"]:
        all_items: Tensor = _GatherRows.apply(items, team)  # type: ignore[no-untyped-call]
        return all_items[:n]

    return gather


def add_up(parameters: Iterable[nn.Parameter], losses: Sequence[Tensor], seconds: float, team: Team) -> Totals:
    """Adds up over all processes the gradients of `parameters`, in place, and the losses (total, retrieval, ranking).

    The training time in the result is the leader's `seconds`.
    """
    if team.size == 1:
        return Totals(losses[0].item(), losses[1].item(), losses[2].item(), seconds)
    with_gradient = [p for p in parameters if p.grad is not None]
    for parameter in with_gradient:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = _add_up_rows(parameter.grad)
    gradients = [p.grad for p in with_gradient if p.grad is not None and not p.grad.is_sparse]
    scalars = [*(loss.detach().float() for loss in losses), losses[0].new_tensor(seconds * team.leads).float()]
    flat = torch.cat([t.reshape(-1) for t in (*gradients, *scalars)])
    with _report_lost_process():
        dist.all_reduce(flat)
    parts = torch.split(flat, [t.numel() for t in (*gradients, *scalars)])
    for gradient, total in zip(gradients, parts, strict=False):
        gradient.copy_(total.view_as(gradient))
    loss, retrieval, ranking, leader_seconds = flat[-len(scalars) :].tolist()
    return Totals(loss, retrieval, ranking, leader_seconds)


def _add_up_rows(gradient: Tensor) -> Tensor:
    """The sum of a sparse gradient over all processes; the library adds such up on a CPU alone."""
    is_summable = gradient.device.type == "cpu"
    total = gradient.coalesce() if is_summable else gradient.to_dense()
    with _report_lost_process():
        dist.all_reduce(total)
    return total if is_summable else total.to_sparse(1)


class _GatherRows(torch.autograd.Function):
    """The rows of all processes in rank order; backward gives each process the summed gradients of its own rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, team: Team) -> Tensor:  # noqa: ANN401
        ctx.team = team
        parts = [torch.empty_like(own) for _ in range(team.size)]
        with _report_lost_process():
            dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        with _report_lost_process():
            dist.all_reduce(total)
        return total.chunk(ctx.team.size)[ctx.team.rank], None


def _take_rows(inputs: Inputs, rows: Int64[np.ndarray, " own"]) -> Inputs:
    """The inputs of the queries or items at `rows`; every field of `inputs` has one row for each."""
    return replace(inputs, **{field.name: _take_values(getattr(inputs, field.name), rows) for field in fields(inputs)})


def _take_values(values: Any, rows: Int64[np.ndarray, " own"]) -> Any:  # noqa: ANN401 - what a field holds
    if isinstance(values, Mapping):
        return {name: _take_values(value, rows) for name, value in values.items()}
    return _take_bags(values, rows) if isinstance(values, BagIndex) else values[torch.from_numpy(rows)]


def _take_bags(bags: BagIndex, rows: Int64[np.ndarray, " own"]) -> BagIndex:
    assert bags.owner_offsets is not None, "bags for training are made with BagIndex.from_bags(bags, n_rows)"
    whole = Bags(bags.offsets.numpy().astype(np.int64), bags.rows.numpy())
    return BagIndex.from_bags(whole.take(rows), len(bags.owner_offsets) - 1)


@contextmanager
def _report_lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]
        raise ProcessLost(f"Another process of this run has gone ({reason}).", _CURE) from error


def _end_on_signal(number: int, frame: object) -> NoReturn:
    raise ProcessLost("This process was told to end, as torchrun does when another one of the run has gone.", _CURE)
