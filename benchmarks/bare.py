"""A bare handler to measure the server against: the same encoder and the same Faiss index, nothing else of ours.

No framework, no words, no filters, no ranking, no item data: a query in, the rows and scores of `k` items out.
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


class Ask(msgspec.Struct):
    """A query and how many items."""

    query: str
    k: int = 10


def application(run: Path) -> Any:  # noqa: ANN401 - an ASGI application
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    encoder = Encoder.open(run / "model")
    about = msgspec.json.decode((run / "index" / "manifest.json").read_bytes())
    index = faiss.read_index(str(run / "index" / "ivf.faiss"), faiss.IO_FLAG_MMAP)
    faiss.extract_index_ivf(index).nprobe = about["counts"]["probed"]
    nobody, query = np.zeros((1, 0), np.int32), np.zeros((1, index.d), np.float32)

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
        status, said = 200, b"{}"
        if body:
            asked = msgspec.json.decode(body, type=Ask)
            query[:, : encoder.width] = encoder.served([asked.query], [None], nobody)  # padded, as the index is
            scores, rows = index.search(query, asked.k)
            said = msgspec.json.encode({"rows": rows[0].tolist(), "scores": scores[0].tolist()})
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": said})

    return answer


def serve(run: Path, port: int, workers: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    server = Granian("bare", port=port, interface=Interfaces.ASGI, workers=workers, log_enabled=False)
    server.serve(target_loader=partial(application, run), wrap_loader=False)
