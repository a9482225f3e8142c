"""Mutated files through the readers: no traceback, no hang, and no text that is neither in a row nor set aside.

    python benchmarks/fuzz_readers.py [--executions 1000000] [--seconds 3600] [--seed 0] [--processes 1] [--keep FOLDER]

Small CSV, JSON and Parquet files, of several dialects, are mutated: bytes are changed, cut, doubled and put in, lines
and values are moved, quotes and separators come and go. Each record of them has a token of its own. An execution opens
the file, reads all rows, and ends in one of three ways: rows, a `TableError` (what a user can mend), or a failure. A
failure is any other exception; or a token that is in the file and neither in a row nor in a line set aside nor in the
header (`lost`); or rows of items that are not all kept, set aside or part of another (`uncounted`, at every 200th
execution, which goes through `read_items`).

The work is done in processes of 10,000 executions each, so that a crash or a hang (60 seconds for one file) is seen.
Failures are kept in `--keep`. Writes benchmarks/results/fuzz_readers.json.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import logging
import random
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from machine import environment, write_result

from mmse.core.errors import TableError
from mmse.sources.casting import read_items
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.tables import ItemsConfig, open_items

BATCH = 10_000
MAX_SECONDS_PER_FILE = 60
EVERY_WHOLE = 200
TOKEN = re.compile(rb"tok\d+x")
BITS = (
    b'"',
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b"\\",
    b"\t",
    b";",
    b"\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"'",
    b"\xff",
    b"\\N",
)
WORDS = (b"NULL", b"NaN", b"1e999", b"-1", b"0x1F", b"true", b"\xef\xbb\xbf", b"\xf0\x9f\x91\x9f", b"9" * 30, b"  ")


def records(rng: random.Random) -> list[dict[str, str]]:
    """A few rows of items, each with its own token in its title."""
    words = ["cup", 'pipe 3/4"', "mug, red", "line\nfeed", "back\\slash", "it's", "é", "", "a;b", "tab\there"]
    return [
        {
            "item_id": f"i{number}",
            "title": f"tok{number}x {rng.choice(words)}",
            "brand": rng.choice(["Acme", "", "Orlo"]),
            "price": rng.choice(["1.5", "2,50", "", "9"]),
        }
        for number in range(rng.randint(1, 12))
    ]


def write_base(rng: random.Random) -> tuple[str, bytes]:
    """A well-formed file of one of the dialects: its name and its content."""
    rows = records(rng)
    kind = rng.choice(("csv", "csv", "json", "json", "parquet"))
    if kind == "parquet":
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer, compression=rng.choice(("none", "snappy", "zstd")))
        return "items.parquet", buffer.getvalue()
    text = write_csv(rng, rows) if kind == "csv" else write_json(rng, rows)
    content = text.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig")), "replace")
    name = {"csv": "items.csv", "json": "items.jsonl"}[kind]
    return (name + ".gz", gzip.compress(content, 1)) if rng.random() < 0.05 else (name, content)


def write_csv(rng: random.Random, rows: list[dict[str, str]]) -> str:
    """The rows as CSV of one of the dialects."""
    text = io.StringIO(newline="")
    escapes = {"doublequote": False, "escapechar": "\\"} if rng.random() < 0.3 else {}
    writer = csv.DictWriter(
        text,
        list(rows[0]),
        delimiter=rng.choice(",,;\t|"),
        lineterminator=rng.choice(("\n", "\r\n")),
        quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
        **escapes,  # type: ignore[arg-type]
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_json(rng: random.Random, rows: Sequence[dict[str, Any]]) -> str:
    """The rows as JSON of one of the forms."""
    if rng.random() < 0.1:
        rows = [row | {"price": {"$numberDecimal": row["price"]}} for row in rows]
    lines = [json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in rows]
    if rng.random() < 0.1:
        lines = ['{"index": {"_id": "x"}}\n' + line for line in lines]
    elif rng.random() < 0.1:
        lines = [f'{{"_index": "x", "_id": "y", "_source": {line}}}' for line in lines]
    forms = ("\n".join(lines), ",\n".join(lines), f"[{','.join(lines)}]", json.dumps(rows, indent=1))
    return rng.choice((*forms, json.dumps({"products": rows}), "".join(lines), "\r\n".join(lines) + "\r\n"))


def mutate(rng: random.Random, content: bytes) -> bytes:
    """`content` with a few changes."""
    data = bytearray(content)
    for _ in range(rng.choice((0, 1, 1, 2, 4, 8))):
        begin = rng.randrange(len(data) + 1)
        end = min(len(data), begin + rng.choice((1, 1, 2, 5, 30)))
        change = rng.randrange(8)
        if change == 0:
            data[begin:end] = bytes(rng.randrange(256) for _ in range(end - begin))
        elif change == 1:
            del data[begin:end]
        elif change == 2:
            data[begin:begin] = data[begin:end] * rng.choice((1, 2, 30))
        elif change == 3:
            data[begin:begin] = rng.choice(BITS)
        elif change == 4:
            data[begin:begin] = rng.choice(WORDS)
        elif change == 5:
            del data[begin + (len(data) - begin) // 2 :]
        elif change == 6:
            lines = data.split(b"\n")
            rng.shuffle(lines)
            data = bytearray(b"\n".join(lines))
        else:
            data = data.replace(rng.choice(BITS), rng.choice(BITS), rng.choice((1, 3, -1)))
    return bytes(data)


def read_all(session: Session, file: Path) -> tuple[bytes, list[bytes]]:
    """All text of a file's rows and of its header, and each line set aside, of which DuckDB may not show the text."""
    if ".csv" in file.name:
        session.run("DROP TABLE IF EXISTS items_bad_lines; DROP TABLE IF EXISTS items_bad_scan")
    table = open_items(session.connection, ItemsConfig(file.name, max_rejected_share=1.0), file.parent)
    document = table.document or "(SELECT to_json(shop_row) FROM (SELECT shop_table.*) AS shop_row)"
    rows = session.run(f"SELECT {document} FROM {table.scan} AS shop_table", reading=table)
    names = [] if table.document else session.run(f"DESCRIBE SELECT * FROM {table.scan}")
    bad_lines = session.run(f"SELECT csv_line FROM {table.bad_lines}") if table.bad_lines else []
    text = "".join(str(row[0]) for row in (*rows, *names))
    unread = [b"" for row in rows if row[0] is None]
    return text.encode("utf-8", "replace"), [*unread, *(str(line or "").encode() for (line,) in bad_lines)]


def lost_tokens(content: bytes, text: bytes, lines: list[bytes]) -> set[bytes]:
    """The tokens of `content` that neither `text` has nor a line set aside.

    DuckDB shows nothing of some lines, and a neighbour in place of others; such a line stands for three tokens.
    """
    tokens = set(TOKEN.findall(text))
    lost = set(TOKEN.findall(content)) - tokens - set(TOKEN.findall(b"".join(lines)))
    n_hidden = sum(not set(TOKEN.findall(line)) - tokens for line in lines)
    return lost if len(lost) > 3 * n_hidden else set()


def check_counts(file: Path) -> str:
    """What `read_items` does not count, '' where it counts all."""
    with open_session(memory_limit="500MB", threads=1) as session:
        config = ItemsConfig(file.name, max_rejected_share=1.0)
        table = open_items(session.connection, config, file.parent)
        counts = read_items(session, table, config)
        ((n_items,),) = session.run("SELECT count(*) FROM items")
    n_kept = n_items + counts.variants.rows + sum(counts.rejections.values())
    return "" if counts.rows == n_kept else f"uncounted: {counts.rows} rows, {n_kept} kept or set aside"


def unpacked(content: bytes) -> bytes:
    """The bytes within a .gz, or `content` itself; nothing of a damaged one."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, ValueError, zlib.error):
        return b""


def execute(session: Session, folder: Path, seed: int, number: int) -> tuple[str, str, bytes]:
    """One execution: the outcome (`rows`, `refused` or a failure), the file's name and its content."""
    rng = random.Random(f"{seed}/{number}")
    name, content = write_base(rng)
    content = mutate(rng, content)
    file = folder / name
    file.write_bytes(content)
    try:
        text, lines = read_all(session, file)
        lost = set() if name.endswith("parquet") else lost_tokens(unpacked(content), text, lines)
        problem = f"lost: {sorted(lost)}" if lost else check_counts(file) if number % EVERY_WHOLE == 0 else ""
    except TableError as error:
        return ("refused", name, b"") if error.cause and error.cure else ("no cause or cure", name, content)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}", name, content
    return (problem, name, content) if problem else ("rows", name, b"")


def is_alive(session: Session) -> bool:
    """Whether DuckDB still answers: some damage ends it for its connection, and the command with it."""
    try:
        return session.run("SELECT 1") == [(1,)]
    except duckdb.Error:
        return False


def work(seed: int, start: int, n: int, keep: Path) -> Counter[str]:
    """Executions `start` to `start + n`; a failure's file is kept."""
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        session = Session(memory_limit="500MB", threads=1)
        for number in range(start, start + n):
            outcome, name, content = execute(session, Path(folder), seed, number)
            if not is_alive(session):
                session = Session(memory_limit="500MB", threads=1)
                outcomes["sessions that a file ended"] += 1
            if outcome in ("rows", "refused"):
                outcomes[f"{Path(name.removesuffix('.gz')).suffix[1:]} {outcome}"] += 1
            else:
                outcomes["failed"] += 1
                (keep / f"{seed}-{number}-{name}").write_bytes(content)
                print(f"{number} {name}: {outcome}", file=sys.stderr, flush=True)
    return outcomes


def work_apart(options: argparse.Namespace, start: int) -> Counter[str]:
    """The outcomes of the batch that begins at `start`, in a process of its own; none once time is over."""
    if time.monotonic() > options.end:
        return Counter()
    n = min(BATCH, options.executions - start)
    command = [sys.executable, __file__, "--seed", str(options.seed), "--keep", str(options.keep)]
    try:
        done = subprocess.run(
            [*command, "--batch", str(start), "--executions", str(n)],
            stdout=subprocess.PIPE,
            timeout=MAX_SECONDS_PER_FILE + n,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Counter({"batches that hung": 1})
    return Counter(json.loads(done.stdout) if done.returncode == 0 else {"batches that crashed": 1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=7200.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz_readers")
    logging.disable(logging.WARNING)
    parser.add_argument("--batch", type=int, help="do one batch that begins at this execution, and print its outcomes")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    if options.batch is not None:
        print(json.dumps(work(options.seed, options.batch, min(BATCH, options.executions), options.keep)))
        return
    begin, outcomes = time.monotonic(), Counter[str]()
    options.end = begin + options.seconds
    with ThreadPool(options.processes) as pool:
        for batch in pool.imap_unordered(partial(work_apart, options), range(0, options.executions, BATCH)):
            outcomes.update(batch)
            print(f"{outcomes.total()} executions, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    result = {
        "seed": options.seed,
        "processes": options.processes,
        "executions": outcomes.total(),
        "seconds": round(time.monotonic() - begin),
        "outcomes": outcomes,
    }
    write_result("fuzz_readers", {**environment(), **result})


if __name__ == "__main__":
    main()
