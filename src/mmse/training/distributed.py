"""Several processes train one model: each step's batch is cut among them, and what they learn is what one would.

Every process draws the same whole batch, takes its part of the requests and of the distinct items, and embeds them.
The items' vectors are gathered, so that every request is compared with the whole pool, whoever embedded it. Losses are
means over requests; a process's part counts by its share of the requests, the gradient of a gathered vector goes back
to whoever embedded it, and the gradients of all processes are added: the sum is the gradient of the whole batch.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
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

_PATIENCE = timedelta(hours=2)
"""How long a process waits for another; validation is part of it. One that has died is noticed at once."""

_MEETING = timedelta(minutes=10)
"""How long a process waits for all others to be there."""

_CURE = "See which one failed first and why, then start the same command with --resume: the last checkpoint is kept."

Inputs = TypeVar("Inputs", QueryInputs, ItemInputs)


class ProcessLost(MmseError):
    """Another process of this run has died, or can no longer be reached."""

    exit_code = 1


@dataclass(frozen=True)
class Team:
    """The processes of a run and which of them this is. The first one `leads`: it writes, the others do not."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and the model, and validates."""
        return self.rank == 0

    def agreed(self, values: Sequence[float]) -> list[float]:
        """The leader's `values`, for every process. All wait here for the leader."""
        if self.size == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64)
        with _reaching_others():
            dist.broadcast(told, src=0)
        return told.tolist()

    def wait(self) -> None:
        """Goes on when the leader has come here as well."""
        self.agreed([0.0])


class Totals(NamedTuple):
    """What a step cost, over all processes, and the training time so far by the leader's clock."""

    loss: float
    retrieval: float
    ranking: float
    seconds: float


def team() -> Team:
    """The team of this process: those of PyTorch's default process group, or itself alone."""
    return Team(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Team()


@contextmanager
def joined() -> Iterator[Team]:
    """The team of the processes that `torchrun` started; this one alone where it started none.

    Of several processes that fail together the first one raises its error, and the others leave with the exit code
    alone, so that a failure is told once.
    """
    if not dist.is_torchelastic_launched():
        yield team()
        return
    with _reaching_others():
        shared, rank, size = next(rendezvous("env://", timeout=_MEETING))
        # started again after a failure, the processes must not read what the former ones left in the same store
        store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], shared)
        dist.init_process_group(store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _told_to_end)
    try:
        yield team()
    except BaseException as error:
        first = True
        with suppress(RuntimeError):  # whoever kept the store is gone, too
            first = store.add("failed", 1) == 1
        if first:
            raise
        raise SystemExit(getattr(error, "exit_code", 1)) from error
    dist.destroy_process_group()


def device_of(name: str, team: Team) -> torch.device:
    """The device that `TrainConfig.device` names; on CUDA each process of a machine takes one of its own.

    Raises `UsageError` where there is none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("train.device is 'cuda', but no CUDA device is there.", "Use 'cpu' or 'auto'.")
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"train.device is '{name}': {error}.", "Use 'cpu', 'cuda' or 'auto'.") from error
    if device.type != "cuda" or team.size == 1:
        return device
    here, there = dist.get_node_local_rank(team.rank), torch.cuda.device_count()
    if here >= there:
        raise UsageError(
            f"This is process {here + 1} on a machine with {there} CUDA devices.",
            f"Start it with --nproc-per-node {there}, or set train.device to 'cpu'.",
        )
    torch.cuda.set_device(here)
    return torch.device("cuda", here)


def all_alike(identity: str, team: Team) -> None:
    """Raises `UsageError` where this process was started with another `identity` than the leader."""
    own = [float(byte) for byte in bytes.fromhex(identity)]
    if team.agreed(own) != own:
        raise UsageError(
            f"Process {team.rank + 1} of {team.size} was given other groups or another config than the first one.",
            "Start all processes with the same command, on the same files.",
        )


def part_of(batch: Batch, team: Team) -> tuple[Batch, float]:
    """This process's part of `batch`, and its share of the requests.

    The part has the embedder's share of the items, while its `columns` and `negatives` are still places among all:
    `gathered` brings them together. All parts hold equally many items, the last one repeated where they do not come
    out even. A process for which there is no request takes the first one at a share of 0.
    """
    if team.size == 1:
        return batch, 1.0
    requests: Int64[np.ndarray, " own"] = np.array_split(np.arange(len(batch)), team.size)[team.rank]
    share = len(requests) / len(batch)
    requests = requests if len(requests) else np.zeros(1, np.int64)
    each = -(-len(batch.items.item_ids) // team.size)
    items = np.arange(each * team.rank, each * (team.rank + 1)).clip(max=len(batch.items.item_ids) - 1)
    kept = torch.from_numpy(requests)
    return replace(
        batch,
        queries=_rows_of(batch.queries, requests),
        items=_rows_of(batch.items, items),
        columns=batch.columns[kept],
        stages=batch.stages[kept],
        weights=batch.weights[kept],
        examination=batch.examination[kept],
        reached=batch.reached[kept],
    ), share


def gather_of(batch: Batch, team: Team) -> Callable[[Tensor], Tensor]:
    """What makes of each process's items of `batch`, embedded, all of them in their order; gradients flow back."""
    if team.size == 1:
        return lambda items: items
    n = len(batch.items.item_ids)

    def gather(items: Float[Tensor, "own views dim"]) -> Float[Tensor, "all views dim"]:
        together: Tensor = _Gathered.apply(items, team)  # type: ignore[no-untyped-call]
        return together[:n]

    return gather


def add_up(parameters: Iterable[nn.Parameter], losses: Sequence[Tensor], seconds: float, team: Team) -> Totals:
    """Adds up over the processes the gradients of `parameters`, in place, and the losses: of all, retrieval, ranking.

    `seconds` counts as the leader says.
    """
    if team.size == 1:
        return Totals(losses[0].item(), losses[1].item(), losses[2].item(), seconds)
    gradients = [p.grad for p in parameters if p.grad is not None]
    said = [*(loss.detach().float() for loss in losses), losses[0].new_tensor(seconds * team.leads).float()]
    flat = torch.cat([t.reshape(-1) for t in (*gradients, *said)])
    with _reaching_others():
        dist.all_reduce(flat)
    parts = torch.split(flat, [t.numel() for t in (*gradients, *said)])
    for gradient, total in zip(gradients, parts, strict=False):
        gradient.copy_(total.view_as(gradient))
    loss, retrieval, ranking, when = flat[-len(said) :].tolist()
    return Totals(loss, retrieval, ranking, when)


class _Gathered(torch.autograd.Function):
    """All processes' rows, one process after the other; backward, each gets back the sum of its rows' gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, team: Team) -> Tensor:  # noqa: ANN401
        ctx.team = team
        parts = [torch.empty_like(own) for _ in range(team.size)]
        with _reaching_others():
            dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        with _reaching_others():
            dist.all_reduce(total)
        return total.chunk(ctx.team.size)[ctx.team.rank], None


def _rows_of(inputs: Inputs, rows: Int64[np.ndarray, " own"]) -> Inputs:
    """The given rows of a tower's inputs, each field of which has one row per query or item."""
    taken: dict[str, Any] = {}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        taken[field.name] = _bags_at(value, rows) if isinstance(value, BagIndex) else value[torch.from_numpy(rows)]
    return replace(inputs, **taken)


def _bags_at(bags: BagIndex, rows: Int64[np.ndarray, " own"]) -> BagIndex:
    assert bags.owner_offsets is not None, "bags for training are made with BagIndex.of(bags, n_rows)"
    whole = Bags(bags.offsets.numpy().astype(np.int64), bags.rows.numpy())
    return BagIndex.of(whole.take(rows), len(bags.owner_offsets) - 1)


@contextmanager
def _reaching_others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]
        raise ProcessLost(f"Another process of this run has gone ({reason}).", _CURE) from error


def _told_to_end(number: int, frame: object) -> NoReturn:
    raise ProcessLost("This process was told to end, as torchrun does when another one of the run has gone.", _CURE)
