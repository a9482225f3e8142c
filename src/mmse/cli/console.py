"""What the commands show on a terminal: tables of hits and of systems, and progress on standard error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mmse.evaluation.offline import Evaluation
from mmse.evaluation.report.query_path import query_path_context, summary
from mmse.evaluation.rows import Measure, Row, find_difference, pivot
from mmse.pipeline import Listener
from mmse.schema.search import WORDS_PART, Answer, Hit
from mmse.schema.value_sets import values_of
from mmse.training.loop import TrainingStep

_QUERY = 72
_COLOURS = ("cyan", "magenta", "yellow", "blue")
"""The colours of the first views of an explanation."""


def answer_table(query: str, answer: Answer) -> RenderableType:
    """The hits of one query, or that there is no good one, and where a rule leads instead."""
    lines: list[RenderableType] = []
    if answer.redirect_url is not None:
        lines.append(Text(f"A rule sends this query to {answer.redirect_url}", style="bold"))
    lines += [Text(note, style="bold") for note in answer.notes]
    if answer.no_good_match:
        return Group(*lines, Text("No good match: nothing in the catalogue is likely enough to be wanted."))
    if answer.corrected_from is not None:
        lines.append(Text(f"Results for “{answer.query}”; --no-correct searches for what was written.", style="dim"))
    elif answer.query != query:
        lines.append(Text(f"Searched for “{answer.query}”, as a rule says.", style="dim"))
    return Group(*lines, hits_table(query, answer.hits))


def hits_table(query: str, hits: Sequence[Hit]) -> RenderableType:
    """The hits of one query: item, how likely it is to be clicked, what its score is made of, and why it matched."""
    title = query if len(query) <= _QUERY else f"{query[:_QUERY]}…"
    table = Table(title=Text(f"“{title}”"), title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("item, and why it was found", overflow="fold", ratio=1)
    table.add_column("likely", justify="right")
    table.add_column("score", justify="right")
    for hit in hits:
        facts = [", ".join(values_of(hit.item[c])) for c in ("category", "brand") if c in hit.item]
        facts += [f"{hit.item['price']:,.2f}"] if "price" in hit.item else []
        facts += [f"{len(hit.variants)} more variant{'s' if len(hit.variants) > 1 else ''}"] if hit.variants else []
        about = " · ".join([hit.item_id, *facts])
        item = Text.assemble(hit.title, "\n", (about, "dim"), "\n", (hit.reason, "italic dim"), "\n", _shares(hit))
        likely = "–" if hit.probability is None else f"{hit.probability:.0%}"
        table.add_row(str(hit.rank), item, likely, f"{hit.score:.3f}")
    return table


def _shares(hit: Hit) -> Text:
    """What the score of a hit is made of, each part in its colour."""
    colours = zip_longest(hit.parts, _COLOURS[: len(hit.parts)], fillvalue="")
    styles = {part: "green" if part == WORDS_PART else colour for part, colour in colours}
    parts = [Text(f"{part} {share:+.2f}", style=styles[part]) for part, share in hit.parts.items()]
    return Text(" · ", style="dim").join(parts)


def evaluation_table(evaluation: Evaluation) -> RenderableType:
    """Systems down, metrics across; a star marks a system that ours differs from beyond its interval."""
    parts: list[RenderableType] = []
    table, subject = pivot(evaluation.rows), evaluation.subject
    for title, measures in _by_target(table.measures):
        grid = Table(box=None, header_style="bold", pad_edge=False)
        grid.add_column("")
        for measure in measures:
            grid.add_column(f"{measure.metric}@{measure.k}", justify="right")
        for system in table.systems:
            cells = [_cell(evaluation, table.get(system, m), table.best(m)) for m in measures]
            grid.add_row(Text(system, style="bold" if system == subject else ""), *cells)
        parts += [Text(title, style="italic"), grid, Text()]
    parts.append(
        Text(f"± is half a 95% interval over queries; * differs from {subject} beyond it (paired).", style="dim")
    )
    summary_lines = summary(query_path_context(evaluation), subject)
    parts += [Text(line) for line in summary_lines if line not in evaluation.warnings]
    parts += [Text(f"! {warning}", style="yellow") for warning in evaluation.warnings]
    return Group(*parts)


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

        def step(name: str, reason: str, runs: bool) -> None:
            for task in list(tasks.values()):
                bars.remove_task(task)
            tasks.clear()
            mark = "[bold green]run [/]" if runs else "[dim]skip[/]"
            console.print(f"{mark} [bold]{escape(name)}[/] [dim]({escape(reason)})[/]", highlight=False)

        def part(name: str, n_done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(escape(name), total=total, note="")
            bars.update(tasks[name], completed=n_done, total=total)

        def training(progress: TrainingStep) -> None:
            if "train" not in tasks:
                tasks["train"] = bars.add_task("train", total=progress.steps, note="")
            speed = f"{progress.requests_per_s:,.0f} requests/s"
            note = f"loss {progress.loss:.3f} · {speed} · {progress.seconds_left:.0f} s left"
            bars.update(tasks["train"], completed=progress.step, total=progress.steps, note=note)
            if progress.recall is not None:
                quality = f"loss {progress.loss:.3f}, recall@100 {progress.recall:.4f} on validation"
                console.print(f"[dim]     epoch {progress.epoch}: {quality}, {speed}[/]", highlight=False)

        yield Listener(step, part, training)


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
    groups = [
        (title, [m for m in measures if m.target == target and (m.metric == "recall") == recall])
        for (target, recall), title in titles.items()
    ]
    return [(title, members) for title, members in groups if members]


def _cell(evaluation: Evaluation, row: Row | None, best: float | None) -> Text:
    if row is None:
        return Text("–", style="dim")
    measure = Measure(row.target, row.metric, row.k)
    difference = find_difference(evaluation.differences, evaluation.subject, row.system, measure)
    half = f" ±{_short((row.high - row.low) / 2)}" if row.low is not None and row.high is not None else ""
    mark = "*" if difference and difference.significant else " "
    return Text.assemble((_short(row.value), "bold green" if row.value == best else ""), (half, "dim"), mark)


def _short(share: float) -> str:
    """A share to three places without its leading zero, so that a table fits 80 columns."""
    return f"{share:.3f}".replace("0.", ".", 1) if abs(share) < 1 else f"{share:.2f}"
