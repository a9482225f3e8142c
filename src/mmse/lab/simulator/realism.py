"""One page of charts to judge how realistic a log looks: concentration, position, arrival, length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64, Int
from plotly.subplots import make_subplots

from mmse.core.artifact import read_manifest
from mmse.sources.file_locations import files_in

INK, GREY, ORANGE, GRID = "#1f3a5f", "#7a8794", "#d9722e", "#e8ecf0"
TITLES = (
    "A few queries and items make much of the traffic",
    "Higher positions are clicked more",
    "New items keep arriving",
    "Most queries are short",
    "Shoppers come back",
    "Items that are clicked more are not ordered more per click",
)


def realism_figure(shop: Path) -> str:
    """A self-contained HTML page of charts of the log in a simulated shop's folder.

    Raises `ArtifactError` where the folder is not one. The truth is not read, so a real log could be drawn as well.
    """
    counts = read_manifest(shop, "shop").counts
    figure = make_subplots(rows=2, cols=3, subplot_titles=TITLES, horizontal_spacing=0.07, vertical_spacing=0.17)
    with duckdb.connect() as database:
        only_shown = "WHERE position IS NOT NULL"  # items that were only retrieved have no position
        for name, path, condition in (("items", "items.parquet", ""), ("events", "events/*.parquet", only_shown)):
            database.execute(f"CREATE VIEW {name} AS FROM read_parquet({files_in(shop, path)}) {condition}")
        _concentration(figure, database)
        _positions(figure, database)
        _arrivals(figure, database)
        _lengths(figure, database)
        _visits(figure, database)
        _orders_per_click(figure, database)
    headline = (
        f"Simulated behaviour · {counts['items']:,} items · {counts['requests']:,} requests · "
        f"{counts['click_rate']:.1%} of shown items clicked · {counts['orders_per_click']:.1%} of clicks ordered"
    )
    _set_layout(figure, headline)
    return str(figure.to_html(full_html=True, include_plotlyjs=True, config={"displayModeBar": False}))


def _concentration(figure: go.Figure, database: duckdb.DuckDBPyConnection) -> None:
    """Lorenz curves: the share of traffic that the most frequent queries or items have."""
    traffic = (
        ("queries · requests", INK, "SELECT count(DISTINCT request_id) FROM events GROUP BY query"),
        ("items · clicks", GREY, "SELECT sum(clicked::INT) FROM events GROUP BY item_id"),
        ("items · orders", ORANGE, "SELECT sum(ordered::INT) FROM events GROUP BY item_id"),
    )
    for row, (name, colour, sql) in enumerate(traffic):
        head, share = _lorenz(np.array(database.execute(sql).fetchall(), np.int64).ravel())
        figure.add_scatter(x=head, y=share, name=name, line={"color": colour, "width": 2.5}, row=1, col=1)
        top_share = float(np.interp(0.1, head, share))
        figure.add_annotation(
            x=0.97,
            y=0.34 - 0.11 * row,
            text=f"{name}: top 10% has {top_share:.0%}",
            showarrow=False,
            xanchor="right",
            font={"color": colour, "size": 12},
            row=1,
            col=1,
        )
    _axes(figure, 1, 1, "share of queries or items, most frequent first", "share of traffic", x="%", y="%")


def _positions(figure: go.Figure, database: duckdb.DuckDBPyConnection) -> None:
    rows = database.execute("""
        SELECT position, avg(clicked::INT) FILTER (NOT explored), avg(clicked::INT) FILTER (explored)
        FROM events GROUP BY 1 ORDER BY 1""").fetchall()
    position, ranked_rate, explored_rate = zip(*rows, strict=True)
    lines = (("ranked slots", ranked_rate, INK), ("explored slots", explored_rate, ORANGE))
    for row, (name, rate, colour) in enumerate(lines):
        style = {"color": colour, "width": 2.5}
        figure.add_scatter(x=position, y=rate, name=name, mode="lines+markers", line=style, row=1, col=2)
        figure.add_annotation(
            x=0.97,
            y=0.95 - 0.11 * row,
            text=name,
            showarrow=False,
            xref="x2 domain",
            yref="y2 domain",
            xanchor="right",
            font={"color": colour, "size": 12},
        )
    _axes(figure, 1, 2, "position on the page", "clicks per shown item", y=".0%")


def _arrivals(figure: go.Figure, database: duckdb.DuckDBPyConnection) -> None:
    rows = database.execute("""
        SELECT day, count(*) FROM (SELECT min(timestamp)::DATE AS day FROM events GROUP BY item_id)
        WHERE day > (SELECT min(timestamp)::DATE FROM events) + 6 GROUP BY 1 ORDER BY 1""").fetchall()
    days, new = zip(*rows, strict=True) if rows else ((), ())
    figure.add_bar(x=days, y=new, marker_color=INK, row=1, col=3)
    _axes(
        figure, 1, 3, "day (the first week, when most are new to the log, left out)", "items shown for the first time"
    )


def _lengths(figure: go.Figure, database: duckdb.DuckDBPyConnection) -> None:
    rows = database.execute(r"""
        SELECT least(len(regexp_split_to_array(trim(query), '\s+')), 7) AS n, count(*) * 1.0 / sum(count(*)) OVER ()
        FROM (SELECT DISTINCT request_id, query FROM events) GROUP BY 1 ORDER BY 1""").fetchall()
    length, share = zip(*rows, strict=True)
    figure.add_bar(x=[f"{n}+" if n == 7 else str(n) for n in length], y=share, marker_color=INK, row=2, col=1)
    _axes(figure, 2, 1, "words in the query", "share of requests", y="%")


def _visits(figure: go.Figure, database: duckdb.DuckDBPyConnection) -> None:
    rows = database.execute("""
        SELECT least(n, 40), count(*) * 1.0 / sum(count(*)) OVER ()
        FROM (SELECT count(DISTINCT request_id) AS n FROM events GROUP BY user_id) GROUP BY 1 ORDER BY 1""").fetchall()
    n, share = zip(*rows, strict=True)
    figure.add_bar(x=n, y=share, marker_color=INK, row=2, col=2)
    _axes(figure, 2, 2, "requests of one shopper (40: 40 or more)", "share of shoppers", y=".0%")


def _orders_per_click(figure: go.Figure, database: duckdb.DuckDBPyConnection) -> None:
    """Items in tenths by click rate: the orders per click of each tenth, with two standard errors."""
    rows = database.execute("""
        SELECT tenth, sum(clicks), sum(orders) FROM (
            SELECT ntile(10) OVER (ORDER BY clicks / shown) AS tenth, clicks, orders FROM (
                SELECT count(*) AS shown, sum(clicked::INT) AS clicks, sum(ordered::INT) AS orders
                FROM events WHERE NOT explored GROUP BY item_id HAVING shown >= 20 AND clicks > 0))
        GROUP BY tenth ORDER BY tenth""").fetchall()
    tenth, clicks, orders = np.array(rows, np.int64).reshape(-1, 3).T
    rate = orders / np.maximum(clicks, 1)
    error = 2 * np.sqrt(rate * (1 - rate) / np.maximum(clicks, 1))
    bars = {"type": "data", "array": error, "color": GREY, "thickness": 1.5}
    figure.add_bar(x=tenth, y=rate, error_y=bars, marker_color=ORANGE, row=2, col=3)
    figure.update_xaxes(tickmode="linear", row=2, col=3)
    _axes(figure, 2, 3, "items by click rate, in tenths (the most clicked: 10)", "orders per click", y="%")


def _lorenz(counts: Int[np.ndarray, " n"]) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """At most 400 points of the curve of cumulative shares, from 0 to 1, the most frequent first."""
    shares = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])]) / max(int(counts.sum()), 1)
    head = np.linspace(0, 1, len(shares))
    points = np.unique(np.linspace(0, len(head) - 1, 400).astype(np.int64))
    return head[points], shares[points]


def _axes(figure: go.Figure, row: int, col: int, x_title: str, y_title: str, *, x: str = "", y: str = "") -> None:
    # A percent sign alone means whole per cents, which plotly writes as ".0%".
    formats = {"": None, "%": ".0%"}
    label: dict[str, Any] = {"font": {"size": 12, "color": GREY}}
    figure.update_xaxes(title={"text": x_title, **label}, tickformat=formats.get(x, x), row=row, col=col)
    figure.update_yaxes(
        title={"text": y_title, **label}, tickformat=formats.get(y, y), row=row, col=col, rangemode="tozero"
    )


def _set_layout(figure: go.Figure, headline: str) -> None:
    figure.update_annotations(selector=lambda note: note.text in TITLES, font={"size": 15, "color": INK})
    figure.update_xaxes(showgrid=False, linecolor=GREY, ticks="outside", tickcolor=GREY)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    figure.update_layout(
        title={"text": headline, "font": {"size": 17, "color": INK}, "x": 0.02},
        font={"family": "Inter, Helvetica, Arial, sans-serif", "size": 12, "color": "#333"},
        plot_bgcolor="white",
        paper_bgcolor="white",
        showlegend=False,
        bargap=0.15,
        width=1500,
        height=860,
        margin={"l": 70, "r": 30, "t": 110, "b": 70},
    )
