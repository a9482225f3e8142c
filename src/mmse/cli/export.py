"""The commands that write a run's items, and a query, for another search engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mmse.cli.options import RunArgument, stderr

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
export_app = typer.Typer(
    name="export",
    help="Writes the items and queries of a run for OpenSearch, Elasticsearch or Qdrant.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
EngineArgument = Annotated[str, typer.Argument(help="opensearch, elasticsearch or qdrant.", metavar="ENGINE")]


@export_app.command(epilog="Example: mmse export feed opensearch run --out feed")
def feed(
    engine: EngineArgument,
    run: RunArgument,
    folder: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("feed"),
    file_mb: Annotated[float, typer.Option(help="About so many megabytes are in a file.")] = 10.0,
    query: Annotated[str | None, typer.Option(help="The query of query.json. Default: the most frequent one.")] = None,
) -> None:
    """Writes all items in files to upload, what their index is made with, and a search like the hybrid."""
    from mmse.cli.console import progress_on
    from mmse.core.config import build
    from mmse.export.feed import FeedConfig, export_run

    config = build(FeedConfig, {"engine": engine, "file_mb": file_mb, "query": query}, "mmse export feed")
    with progress_on(stderr) as listener:
        manifest = export_run(run, folder, config, listener.part)
    for key, value in manifest.counts.items():
        stdout.print(f"{key:>28}  {value}")


@export_app.command(epilog='Example: mmse export query qdrant run "wireless headphones" -k 20 --filter brand=Bosch')
def query(
    engine: EngineArgument,
    run: RunArgument,
    text: Annotated[str, typer.Argument(help="What a shopper would type.", metavar="QUERY")],
    k: Annotated[int, typer.Option("-k", "--hits", help="How many hits.", min=1)] = 10,
    user: Annotated[str | None, typer.Option(help="A user_id of the log: its history counts.")] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="brand=Bosch, price=10..20, or JSON (docs/search.md).")
    ] = None,
) -> None:
    """Prints the body of the request that asks the other engine for the hits of a query."""
    from mmse.core.config import build
    from mmse.export.feed import FeedConfig, make_body
    from mmse.retrieval.retriever import Retriever
    from mmse.schema.filters import parse_terms
    from mmse.schema.search import Search

    config = build(FeedConfig, {"engine": engine}, "mmse export query")
    retriever = Retriever.open(run)
    search = Search(text, k, user, parse_terms(filters or [], retriever.kinds))
    stdout.print(json.dumps(make_body(retriever, config.engine, search), ensure_ascii=False))
