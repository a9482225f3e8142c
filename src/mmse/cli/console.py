"""What the commands show on a terminal: tables of hits and of systems, and progress on standard error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mmse.evaluation.offline import Evaluation
from mmse.evaluation.report.query_path import served_context, summary
from mmse.evaluation.rows import Measure, Row, find_difference, pivot
from mmse.pipeline import Listener
from mmse.schema.search import Answer
from mmse.schema.stages import Hit
from mmse.training.loop import Step

_QUERY = 72
_COLOURS = {"text": "cyan", "identity": "magenta", "shopper": "yellow", "words": "green"}


def answer_table(query: str, answer: Answer) -> RenderableType:
    """The hits of one query, or that there is no good one, and where a rule leads instead."""
    said: list[RenderableType] = []
    if answer.redirect_url is not None:
        said.append(Text(f"A rule sends this query to {answer.redirect_url}", style="bold"))
    if answer.no_good_match:
        return Group(*said, Text("No good match: nothing in the catalogue is likely enough to be wanted."))
    if answer.query != query:
        said.append(Text(f"Searched for “{answer.query}”, as a rule says.", style="dim"))
    return Group(*said, hits_table(query, answer.hits))


def hits_table(query: str, hits: Sequence[Hit]) -> RenderableType:
    """The hits of one query: item, how likely it is to be clicked, what its score is made of, and why it matched."""
    shown = query if len(query) <= _QUERY else f"{query[:_QUERY]}…"
    table = Table(title=Text(f"“{shown}”"), title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("item, and why it was found", overflow="fold", ratio=1)
    table.add_column("likely", justify="right")
    table.add_column("score", justify="right")
    for view in hits[0].parts:
        table.add_column(view, justify="right", style=_COLOURS.get(view, ""))
    for hit in hits:
        facts = [str(hit.item[c]) for c in ("category", "brand") if c in hit.item]
        facts += [f"{hit.item['price']:,.2f}"] if "price" in hit.item else []
        about = " · ".join([hit.item_id, *facts])
        item = Text.assemble(hit.title, "\n", (about, "dim"), "\n", (hit.reason, "italic dim"))
        shares = [f"{part:+.2f}" for part in hit.parts.values()]
        likely = "–" if hit.probability is None else f"{hit.probability:.0%}"
        table.add_row(str(hit.rank), item, likely, f"{hit.score:.3f}", *shares)
    return table


def evaluation_table(evaluation: Evaluation) -> RenderableType:
    """Systems down, metrics across; a star marks a system that ours differs from beyond its interval."""
    shown: list[RenderableType] = []
    table, ours = pivot(evaluation.rows), evaluation.ours
    for title, measures in _by_target(table.measures):
        grid = Table(box=None, header_style="bold", pad_edge=False)
        grid.add_column("")
        for measure in measures:
            grid.add_column(f"{measure.metric}@{measure.k}", justify="right")
        for system in table.systems:
            cells = [_cell(evaluation, table.get(system, m), table.best(m)) for m in measures]
            grid.add_row(Text(system, style="bold" if system == ours else ""), *cells)
        shown += [Text(title, style="italic"), grid, Text()]
    shown.append(Text(f"± is half a 95% interval over queries; * differs from {ours} beyond it (paired).", style="dim"))
    said = summary(served_context(evaluation), ours)
    shown += [Text(line) for line in said if line not in evaluation.warnings]
    shown += [Text(f"! {warning}", style="yellow") for warning in evaluation.warnings]
    return Group(*shown)


@contextmanager
def progress_on(console: Console) -> Iterator[Listener]:
    """A listener that draws stages, their parts and training on `console`."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    quiet = not console.is_terminal  # in a file or a pipe the bars would leave empty lines
    with Progress(*columns, console=console, transient=True, disable=quiet) as bars:
        tasks: dict[str, TaskID] = {}

        def stage(name: str, why: str, runs: bool) -> None:
            for task in list(tasks.values()):
                bars.remove_task(task)
            tasks.clear()
            mark = "[bold green]run [/]" if runs else "[dim]skip[/]"
            console.print(f"{mark} [bold]{escape(name)}[/] [dim]({escape(why)})[/]", highlight=False)

        def part(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(escape(what), total=total, note="")
            bars.update(tasks[what], completed=done, total=total)

        def step(said: Step) -> None:
            if "train" not in tasks:
                tasks["train"] = bars.add_task("train", total=said.steps, note="")
            note = f"loss {said.loss:.3f} · {said.requests_per_s:,.0f} requests/s · {said.seconds_left:.0f} s left"
            bars.update(tasks["train"], completed=said.step, total=said.steps, note=note)
            if said.recall is not None:
                line = f"     epoch {said.epoch}: loss {said.loss:.3f}, recall@100 {said.recall:.4f} on validation"
                console.print(f"[dim]{line}, {said.requests_per_s:,.0f} requests/s[/]", highlight=False)

        yield Listener(stage, part, step)


def _by_target(measures: Sequence[Measure]) -> list[tuple[str, list[Measure]]]:
    titles = {
        ("ordered", True): "Recall of logged orders (test window, whole catalogue)",
        ("clicked", True): "Recall of logged clicks and orders",
        ("clicked", False): "Ranking of logged clicks and orders (an order is worth three clicks)",
        ("off_search", True): "Recall of orders drawn from the simulated truth, outside the search",
        ("truth", False): "Against the simulated truth",
        ("judged", True): "Recall of what people judged relevant (whole catalogue)",
        ("judged", False): "First relevant item",
    }
    grouped = [
        (title, [m for m in measures if m.target == target and (m.metric == "recall") == recall])
        for (target, recall), title in titles.items()
    ]
    return [(title, those) for title, those in grouped if those]


def _cell(evaluation: Evaluation, row: Row | None, best: float | None) -> Text:
    if row is None:
        return Text("–", style="dim")
    measure = Measure(row.target, row.metric, row.k)
    other = find_difference(evaluation.differences, evaluation.ours, row.system, measure)
    half = f" ±{_short((row.high - row.low) / 2)}" if row.low is not None and row.high is not None else ""
    mark = "*" if other and other.significant else " "
    return Text.assemble((_short(row.value), "bold green" if row.value == best else ""), (half, "dim"), mark)


def _short(share: float) -> str:
    """A share to three places without its leading zero, so that a table fits 80 columns."""
    return f"{share:.3f}".replace("0.", ".", 1) if abs(share) < 1 else f"{share:.2f}"
