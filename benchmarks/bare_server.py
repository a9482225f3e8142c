"""A bare handler to measure the server against: the same encoder and the same Faiss index, and nothing else.

No framework, lexical channel, filters, ranking or item data: it takes a query and gives rows and scores of `k` items.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import msgspec
import numpy as np
import torch
from granian import Granian
from granian.constants import Interfaces

from mmse.model.encoder import Encoder


class SearchBody(msgspec.Struct):
    """A query and the number of items."""

    query: str
    k: int = 10


def application(run: Path) -> Any:  # noqa: ANN401 - an ASGI application
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    encoder = Encoder.open(run / "model")
    manifest = msgspec.json.decode((run / "index" / "manifest.json").read_bytes())
    index = faiss.read_index(str(run / "index" / "ivf.faiss"), faiss.IO_FLAG_MMAP)
    faiss.extract_index_ivf(index).nprobe = manifest["counts"]["probed"]
    no_history, query = np.zeros((1, 0), np.int32), np.zeros((1, index.d), np.float32)

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, payload = 200, b"{}"
        if body:
            request = msgspec.json.decode(body, type=SearchBody)
            query[:, : encoder.width] = encoder.embed_queries_compiled(
                [request.query], [None], no_history
            )  # padded, as the index is
            scores, rows = index.search(query, request.k)
            payload = msgspec.json.encode({"rows": rows[0].tolist(), "scores": scores[0].tolist()})
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": payload})

    return answer


def serve(run: Path, port: int, workers: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    server = Granian("bare_server", port=port, interface=Interfaces.ASGI, workers=workers, log_enabled=False)
    server.serve(target_loader=partial(application, run), wrap_loader=False)
