"""A database in a process of its own: `python duckdb_server.py SOCKET DATABASE` answers SQL until its stdin ends."""

from __future__ import annotations

import sys
import threading
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa


def execute(database: duckdb.DuckDBPyConnection, request: dict[str, Any]) -> dict[str, object]:
    """The rows that the statements of `request` give, or its error; `table` is an Arrow table that they may read."""
    with database.cursor() as cursor:
        try:
            if request["table"]:
                cursor.register("uploaded", pa.ipc.open_stream(request["table"]).read_all())
            *statements, query = request["statements"]
            for statement in statements:
                cursor.execute(statement)
            return {"rows": cursor.execute(query, request["parameters"]).fetchall()}
        except duckdb.Error as error:
            return {"error": str(error)}


def answer(connection: Connection, database: duckdb.DuckDBPyConnection) -> None:
    with connection:
        request = msgspec.msgpack.decode(connection.recv_bytes())
        connection.send_bytes(msgspec.msgpack.encode(execute(database, request)))


def serve(address: str, database: duckdb.DuckDBPyConnection) -> None:
    Path(address).unlink(missing_ok=True)
    with Listener(address, backlog=64) as listener:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            threading.Thread(target=answer, args=(listener.accept(), database), daemon=True).start()


if __name__ == "__main__":
    threading.Thread(target=serve, args=(sys.argv[1], duckdb.connect(sys.argv[2])), daemon=True).start()
    sys.stdin.read()
