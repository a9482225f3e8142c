"""The commands that serve a site, and bring home what its shoppers did."""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

stdout = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)
TOKEN = "MMSE_TOKEN"  # noqa: S105 - the name of a variable
OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"
Site = Annotated[
    Path, typer.Argument(help="A run folder, or a site folder with versions (mmse versions).", metavar="PATH")
]
Host = Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 for every network of this machine.")]
Port = Annotated[int, typer.Option(help="0 for any that is free.", min=0, max=65_535)]

events_app = typer.Typer(
    name="events",
    help="What shoppers saw and did, as the server took it in.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def serve(
    path: Site,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(help="Processes that answer; one for each core is usual.", min=1)] = 1,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"A file with a token, or lines `SCOPES TOKEN`. Default: ${TOKEN}; without one, no writes."),
    ] = None,
    user_salt_file: Annotated[
        Path | None, typer.Option(help="A file with a salt: user_id and session_id are hashed with it at the door.")
    ] = None,
    timeout_ms: Annotated[int, typer.Option(help="How long a search may take, waiting included.", min=1)] = 1_000,
    queue_size: Annotated[
        int, typer.Option("--waiting", help="Searches that may wait in a worker; more are refused.", min=1)
    ] = 64,
    requests_per_s: Annotated[int, typer.Option(help="For one client address; 0: no limit.", min=0)] = 1_000,
    answer_cache_mb: Annotated[
        int, typer.Option("--answer-cache", help="Megabytes of answers that a worker keeps; 0: none.", min=0)
    ] = 64,
    verify: Annotated[
        bool, typer.Option("--verify", help="Reads every file first; does not start with a damaged one.")
    ] = False,
    events: Annotated[Path | None, typer.Option(help="Where events are kept. Default: PATH/events.")] = None,
    log_exposures: Annotated[
        bool, typer.Option("--log-exposures", help="Logs what searches show, queries included: personal data.")
    ] = False,
    image_host: Annotated[
        list[str] | None, typer.Option(help="Where item pictures may come from: https://images.example.com.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Whose pages may search from a browser: https://shop.example; * for any.")
    ] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="Whose X-Forwarded-For counts: the address or network of your proxy.")
    ] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="One JSON object a line on standard error.")] = False,
    access_log: Annotated[bool, typer.Option(help="A line for each request.")] = True,
    log_queries: Annotated[bool, typer.Option("--log-queries", help="With query strings: personal data.")] = False,
) -> None:
    """Serves searches over HTTP, and a page to try them on: a run, or the versions of a site.

    Ctrl-C or SIGTERM ends it once what came in is answered.
    """
    from mmse.core.extras import require_extra

    require_extra("serve")
    from mmse.serving import server
    from mmse.serving.config import ServeConfig
    from mmse.serving.observability import logs

    config = ServeConfig(
        path=path,
        host=host,
        port=port,
        workers=workers,
        token=None if token_file else os.environ.get(TOKEN) or None,
        token_file=token_file,
        user_salt_file=user_salt_file,
        timeout_ms=timeout_ms,
        queue_size=queue_size,
        requests_per_s=requests_per_s,
        answer_cache_mb=answer_cache_mb,
        verify=verify,
        events=events,
        log_exposures=log_exposures,
        access_log=access_log,
        log_queries=log_queries,
        otlp_endpoint=os.environ.get(OTLP),
        image_hosts=tuple(image_host or ()),
        cors_origins=tuple(origin.rstrip("/") for origin in cors_origin or ()),
        proxies=tuple(proxy or ()),
    )
    server.check(config)
    logs.configure(json=log_json, level="INFO")
    stderr.print(f"Serving {path} on http://{_url_host(host)}:{port} (Ctrl-C ends it)")
    if config.token is None and config.token_file is None:
        stderr.print(f"Read only: no token was given (--token-file or ${TOKEN}).")
    if not server.serve(config):
        raise typer.Exit(1)


@events_app.command(epilog="Example: mmse events export site events.parquet")
def export(
    path: Site, file: Annotated[Path, typer.Argument(help="The table to write.", metavar="EVENTS.parquet")]
) -> None:
    """Joins what was shown, clicked and ordered into the events table that `mmse mine` reads."""
    from mmse.serving.events.export import export_table

    rows = export_table(_events_folder(path), file)
    stdout.print(f"{rows:,} items shown, in {file}.")


@events_app.command(epilog="Example: mmse events prune site --keep-days 400")
def prune(path: Site, keep_days: Annotated[float, typer.Option(help="How many days of events stay.", min=1)]) -> None:
    """Removes the files of the log whose newest row is older than that; servers may go on meanwhile."""
    from mmse.serving.events import retention

    report = retention.prune(_events_folder(path), keep_days, datetime.now(UTC))
    stdout.print(
        f"{report.n_files:,} files with {report.n_rows:,} rows of before {report.limit:%Y-%m-%d %H:%M} UTC removed, "
        f"{report.n_bytes / 1e6:.1f} MB."
    )


def _events_folder(path: Path) -> Path:
    return path / "events" if (path / "events").is_dir() else path


def _url_host(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
