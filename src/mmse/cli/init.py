"""The command that looks at a folder of exports and writes a shop.toml to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mmse.core.artifact import explain_os_errors
from mmse.core.errors import TableError, UsageError, suggest

if TYPE_CHECKING:
    import duckdb

    from mmse.sources.profiles import FileProfile
    from mmse.sources.proposals import TableProposal

stdout = Console(highlight=False, emoji=False)
_FILE = "shop.toml"
_EVENTS, _ITEMS = "events.parquet", "items.parquet"
_MAX_EXTRA = 12
_NO_LOG = """# No file looks like a log of searches: without [events] the search learns from the catalogue's own words.
# With a log, take the signs away:
# [events]
# source = "events.csv"
"""


def init(
    folder: Annotated[Path, typer.Argument(help="A folder with the shop's exports.", metavar="FOLDER")],
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="events.query=city: what init cannot guess, once for each.")
    ] = None,
    make_events: Annotated[
        bool,
        typer.Option(
            "--make-events", help="Writes events.parquet from a log that lacks columns, or a public set's tables."
        ),
    ] = False,
) -> None:
    """Looks at the files of a folder, proposes which column is which, and writes a commented shop.toml."""
    import duckdb

    from mmse.sources.derived_events import derivable
    from mmse.sources.profiles import profile_folder
    from mmse.sources.proposals import propose_items, with_ids_of_log
    from mmse.sources.public_sets import find_public_set
    from mmse.sources.source_proposals import as_log, propose_event_sources, propose_published_items

    target = folder / _FILE
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", "Name the folder that holds the exports of your shop.")
    if target.exists():
        raise UsageError(f"{target} exists and is not overwritten.", "Edit it, or move it away and ask again.")
    if public := find_public_set(folder, duckdb.connect()):
        _init_public_set(public, folder, duckdb.connect(), is_written=make_events)
        return
    connection, profiles = duckdb.connect(), profile_folder(folder)
    for profile in profiles:
        stdout.print(_summary_of(profile), markup=False, soft_wrap=True)
    if not any(profile.columns for profile in profiles):
        raise TableError(
            f"{folder} has no table that can be read.", "Export CSV (UTF-8), JSON Lines or Parquet into it."
        )
    log_columns, item_columns = (_shop_columns(profiles, table, columns or []) for table in ("events", "items"))
    profiles = [as_log(p) if log_columns and p.has_columns(log_columns) else p for p in profiles]
    items = propose_published_items(profiles) or propose_items(profiles, item_columns)
    items = with_ids_of_log(items, profiles, connection) if items and not items.format else items
    sources = propose_event_sources(profiles, items, connection)
    if len(sources) > 1 or any(source.format for source in sources):
        _finish(target, items, sources, columns or [], folder)
        _print_unread(profiles, [items, *sources])
        return
    events = next(iter(sources), None)
    items = _with_columns(items, "items", columns or []) if items else None
    events = _with_columns(events, "events", columns or []) if events else None
    if events and make_events and derivable(events):
        items, events = _make_tables(connection, items, events, folder)
    with explain_os_errors(target):
        target.write_text(render_toml(items, events), "utf-8")
    problems = [profile.source for profile in profiles if profile.problem]
    _print_result(target, items, events, folder, problems)
    _print_unread(profiles, [items, *sources])


def _init_public_set(name: str, folder: Path, connection: duckdb.DuckDBPyConnection, *, is_written: bool) -> None:
    """Writes the tables of a public data set and a shop.toml for them, or says how to."""
    from mmse.sources.public_sets import PUBLIC_SETS, write_public_set

    public = PUBLIC_SETS[name]
    stdout.print(f"{folder} is {public.title} (docs/public_sets.md).", markup=False, soft_wrap=True)
    if not is_written:
        names = ", ".join(f"{table}.parquet" for table in public.tables)
        stdout.print(f"mmse init {folder} --make-events writes {names} and shop.toml.", markup=False, soft_wrap=True)
        return
    for file in (folder / f"{table}.parquet" for table in public.tables):
        if file.exists():
            raise UsageError(f"{file} exists and is not overwritten.", "Move it away and ask again.")
    with explain_os_errors(folder / _FILE):
        counts = write_public_set(name, folder, connection)
        lines = [f"# {public.title}: made by `mmse init --make-events`.", "", "[items]", f'source = "{_ITEMS}"', ""]
        lines += ["[events]", f'source = "{_EVENTS}"', ""] if "events" in counts else []
        (folder / _FILE).write_text("\n".join(lines), "utf-8")
    for table, n_rows in counts.items():
        stdout.print(f"Wrote {folder / table}.parquet: {n_rows:,} rows.", markup=False, soft_wrap=True)
    if "judgements" in counts:
        files = f"--items {folder / _ITEMS} --judgements {folder / 'judgements.parquet'}"
        next_command = (
            f"mmse simulate shop {files}; or mmse run {folder / _FILE}, then mmse evaluate run --judgements …"
        )
    else:
        next_command = f"mmse doctor {folder / _FILE}"
    stdout.print(f"Wrote {folder / _FILE}. Next: {next_command}", markup=False, soft_wrap=True)


def _finish(
    target: Path, items: TableProposal | None, sources: list[TableProposal], columns: list[str], folder: Path
) -> None:
    """Writes shop.toml for a log of several sources, or of a published format."""
    items = _with_columns(items, "items", columns) if items else None
    sources = [_with_columns(sources[0], "events", columns), *sources[1:]]
    with explain_os_errors(target):
        target.write_text(render_toml(items, None, sources), "utf-8")
    _print_result(target, items, sources[0], folder)


def render_toml(
    items: TableProposal | None, events: TableProposal | None, sources: list[TableProposal] | None = None
) -> str:
    """A shop.toml with the reason and a sample of each column; what was not found is a comment to fill in."""
    lines = [
        "# Proposed by `mmse init`: look at each line. Then `mmse doctor shop.toml`, and `mmse run shop.toml`.",
        "",
    ]
    for table, proposal in (("items", items), *([] if sources else [("events", events)])):
        if table == "events" and proposal is None and items is not None:
            lines += [_NO_LOG]
            continue
        lines += [f"[{table}]"]
        if proposal is None:
            lines += [f"# No file looks like {table}.", f'source = "{table}.csv"', ""]
            continue
        lines += _source_lines(proposal)
        for key in ("text", "categorical", "numeric", "vectors", "display"):
            names = [name for name in getattr(proposal, key) if '"' not in name][:_MAX_EXTRA]
            lines += [f"{key} = [{', '.join(map(_quote, names))}]"] if names else []
        lines += [f"# {note}." for note in proposal.notes]
        lines += _column_lines(proposal, f"{table}.columns") if proposal.mappings or proposal.absent else []
        lines.append("")
    for source in sources or []:
        lines += ["[[events.sources]]", *_source_lines(source), *(f"# {note}." for note in source.notes)]
        lines += [*(_column_lines(source, "events.sources.columns") if source.mappings else []), ""]
    if events is not None or sources:
        lines += ["[mine]", '# leave_out = ["guest", "bots"]  # what mmse doctor names', ""]
    return "\n".join(lines)


def _source_lines(proposal: TableProposal) -> list[str]:
    lines = [f"source = {_quote(proposal.file.source)}  # {proposal.file.n_rows:,} rows"]
    lines += [f"format = {_quote(proposal.format)}"] if proposal.format else []
    if proposal.file.encoding:
        reason = "it is no UTF-8; if the samples below do not read well, name another encoding"
        lines.append(f"encoding = {_quote(proposal.file.encoding)}  # {reason}")
    position = proposal.file.column(proposal.shop_column("position") or "")
    if position and position.least_number == 0:
        lines.append("first_position = 0  # position has a 0")
    if proposal.empty_flags:
        lines.append(f"empty_means_no = true  # {proposal.empty_flags[0]} is empty in some rows")
    return lines


def _column_lines(proposal: TableProposal, section: str) -> list[str]:
    lines = ["", f"[{section}]"]
    for mapping in proposal.mappings:
        value = mapping.value or _quote(mapping.shop)
        lines.append(f"{mapping.ours} = {value}  # {mapping.reason}{_samples(proposal, mapping.shop)}")
    return [*lines, *(f'# {name} = "…"  # needed, and not found' for name in proposal.absent)]


def _make_tables(
    connection: duckdb.DuckDBPyConnection, items: TableProposal | None, events: TableProposal, folder: Path
) -> tuple[TableProposal | None, TableProposal]:
    """Writes the events, and items of ids alone where there is no catalogue."""
    from mmse.sources.derived_events import as_made, derive_events
    from mmse.sources.profiles import FileProfile
    from mmse.sources.proposals import Mapping, TableProposal
    from mmse.sources.tables import literal

    events_file, items_file = folder / _EVENTS, folder / _ITEMS
    for file in (events_file, *(() if items else (items_file,))):
        if file.exists():
            raise UsageError(f"{file} exists and is not overwritten.", "Move it away and ask again.")
    with explain_os_errors(events_file):
        connection.execute(f"COPY ({derive_events(events)}) TO {literal(str(events_file))} (FORMAT parquet)")
        ((n_rows,),) = connection.execute(f"SELECT count(*) FROM {literal(str(events_file))}").fetchall()
        if items is None:
            ids = f"SELECT DISTINCT item_id, item_id AS title FROM {literal(str(events_file))} ORDER BY item_id"
            connection.execute(f"COPY ({ids}) TO {literal(str(items_file))} (FORMAT parquet)")
            ((n_items,),) = connection.execute(f"SELECT count(*) FROM {literal(str(items_file))}").fetchall()
            reason = "made from the log: there is no catalogue"
            mappings = (Mapping("item_id", "item_id", reason), Mapping("title", "title", "the id: items have no text"))
            items = TableProposal(FileProfile(_ITEMS, literal(str(items_file)), int(n_items), ()), mappings, ())
    made = as_made(events, _EVENTS)
    return items, replace(made, file=replace(made.file, n_rows=int(n_rows)))


def _with_columns(proposal: TableProposal, table: str, columns: list[str]) -> TableProposal:
    """`proposal` with what the user says of `table`, as `events.query=city`."""
    from mmse.schema.columns import EVENT_COLUMNS, ITEM_COLUMNS
    from mmse.sources.proposals import Mapping

    contract = ITEM_COLUMNS if table == "items" else EVENT_COLUMNS
    for option in columns:
        name, _, shop = option.partition("=")
        where, _, ours = name.partition(".")
        if where != table:
            if where not in ("items", "events") or not shop:
                raise UsageError(f"--column {option} is not understood.", "Write --column events.query=city.")
            continue
        if ours not in contract:
            raise UsageError(
                f"There is no column '{ours}' of {table}.", suggest(ours, contract.names, "See docs/tables.md.")
            )
        names = [column.name for column in proposal.file.columns]
        if shop not in names:
            raise UsageError(
                f"{proposal.file.source} has no column '{shop}'.", suggest(shop, names, f"It has: {', '.join(names)}.")
            )
        mappings = (*(m for m in proposal.mappings if m.ours != ours), Mapping(ours, shop, "you said so"))
        absent = tuple(column for column in proposal.absent if column != ours)
        proposal = replace(proposal, mappings=mappings, absent=absent)
    return proposal


def _shop_columns(profiles: Sequence[FileProfile], table: str, columns: list[str]) -> list[str]:
    """The shop's columns that the user names for `table`; raises `UsageError` where no file has all of them."""
    options = [option.partition("=") for option in columns]
    names = [shop for name, _, shop in options if name.startswith(f"{table}.") and shop]
    readable = [profile for profile in profiles if profile.columns]
    if names and not any(profile.has_columns(names) for profile in readable):
        known = sorted({column.name for profile in readable for column in profile.columns})
        cure = f"The files have: {', '.join(known)}."
        if shop := next((name for name in names if name not in known), None):
            raise UsageError(f"The exports have no column '{shop}'.", suggest(shop, known, cure))
        raise UsageError(f"No file has {' and '.join(map(repr, names))} together.", cure)
    return names


def _print_unread(profiles: Sequence[FileProfile], proposals: Sequence[TableProposal | None]) -> None:
    """Names the files that no table reads."""
    sources = {proposal.file.source for proposal in proposals if proposal}
    if names := [profile.source for profile in profiles if profile.columns and profile.source not in sources]:
        stdout.print(f"Read by no table: {', '.join(names)}.", markup=False, soft_wrap=True)


def _print_result(
    target: Path, items: TableProposal | None, events: TableProposal | None, folder: Path, problems: Sequence[str] = ()
) -> None:
    from mmse.sources.derived_events import derivable

    stdout.print(f"\n{target.read_text('utf-8')}", markup=False, soft_wrap=True)
    absent = [f"{table}.{name}" for table, p in (("items", items), ("events", events)) if p for name in p.absent]
    absent += ["items"] if items is None else []
    if problems and (events is None or items is None):
        names = ", ".join(problems)
        stdout.print(
            f"{names} may be what is not found: mend what is said of it above, remove {target}, and ask again.",
            markup=False,
            soft_wrap=True,
        )
        return
    if events and derivable(events):
        stdout.print(
            f"The log has no {', '.join(events.absent)}. Where each row is a click, or holds a list of what was shown, "
            f"one row for each item can be made: remove {target}, then mmse init {folder} --make-events",
            markup=False,
            soft_wrap=True,
        )
    elif events is None and items is not None and not absent:
        stdout.print("No file looks like a log of searches: the items alone are enough to begin.", soft_wrap=True)
    elif absent:
        example = next((name for name in absent if "." in name), "items.title")
        hint = (
            f"Not found: {', '.join(absent)}. Fill it in in {target}; or remove that file, and: "
            f"mmse init {folder} --column {example}=NAME"
        )
        stdout.print(hint, markup=False, soft_wrap=True)
    stdout.print(f"Wrote {target}. Next: mmse doctor {target}", markup=False, soft_wrap=True)


def _summary_of(profile: FileProfile) -> str:
    if profile.problem:
        return f"{profile.source}: cannot be read: {profile.problem}"
    return f"{profile.source}: {profile.n_rows:,} rows, {', '.join(column.name for column in profile.columns)}"


def _samples(proposal: TableProposal, shop: str) -> str:
    column = proposal.file.column(shop)
    return f". For example: {', '.join(map(_quote, column.samples))}" if column and column.samples else ""


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
