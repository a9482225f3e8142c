"""One system of `embed.py`: for every line on the standard input it embeds the catalogue once and prints what it took.

    python benchmarks/peers/embed_worker.py mmse RUN OUT THREADS
    PEERS/bin/python benchmarks/peers/embed_worker.py model2vec|static_embedding RUN OUT THREADS COLUMN

`mmse` runs the embed step of the run folder RUN. The others read the column COLUMN of `OUT/texts.parquet` and write one
vector each, by the tokenizer and the token table in OUT. This file runs where mmse is not installed, too.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path


def open_mmse(run: Path, out: Path) -> Callable[[], None]:
    """The embed step, with its checks, digests and manifest."""
    from mmse.index.embedding import EmbedConfig, embed

    def work() -> None:
        embed(run / "dataset", run / "model", out / "vectors", EmbedConfig())

    return work


def open_model2vec(out: Path, column: str) -> Callable[[], None]:
    """`StaticModel.encode` with its defaults."""
    import numpy as np
    from model2vec import StaticModel  # type: ignore[import-not-found,unused-ignore]
    from tokenizers import Tokenizer

    model = StaticModel(np.load(out / "table.npy"), Tokenizer.from_file(str(out / "tokenizer.json")))
    return lambda: write_vectors(out, model.encode(read_texts(out, column)))


def open_static_embedding(out: Path, column: str) -> Callable[[], None]:
    """`StaticEmbedding` in a `SentenceTransformer`, 1,024 texts at a time as model2vec takes them."""
    import numpy as np
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found,unused-ignore]
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding  # type: ignore[import-not-found,unused-ignore]
    from tokenizers import Tokenizer

    module = StaticEmbedding(Tokenizer.from_file(str(out / "tokenizer.json")), np.load(out / "table.npy"))
    model = SentenceTransformer(modules=[module], device="cpu")
    return lambda: write_vectors(out, model.encode(read_texts(out, column), batch_size=1_024, show_progress_bar=False))


def read_texts(out: Path, column: str) -> list[str]:
    import pyarrow.parquet as pq

    texts: list[str] = pq.read_table(out / "texts.parquet", columns=[column])[column].to_pylist()
    return texts


def write_vectors(out: Path, vectors: object) -> None:
    """Writes an array and waits until the disk has it, as the embed step does."""
    import numpy as np

    with (out / f"vectors_{os.getpid()}.npy").open("wb") as file:
        np.save(file, np.asarray(vectors), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def read_peak_mb() -> float:
    """The most memory that this process had so far; `getrusage` would tell of the parent's, too."""
    line = next(line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    system, run, out, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    import torch

    torch.set_num_threads(threads)
    openers = {"model2vec": open_model2vec, "static_embedding": open_static_embedding}
    work = open_mmse(run, out) if system == "mmse" else openers[system](out, sys.argv[5])
    base_mb = read_peak_mb()
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        measured = {"wall_s": wall, "cpu_s": cpu, "peak_mb": read_peak_mb(), "base_mb": base_mb}
        print(json.dumps(measured), flush=True)
        shutil.rmtree(out / "vectors", ignore_errors=True)
        (out / f"vectors_{os.getpid()}.npy").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
