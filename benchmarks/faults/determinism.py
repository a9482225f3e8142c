"""The same shop, seed and threads, under other hash seeds, locales and time zones: are all bytes of a run the same?

    python benchmarks/faults/determinism.py WORK

Makes a small shop and runs `mmse run` once for each environment, every library on one thread. Files are compared byte
by byte. Where they differ, JSON is compared value by value; said apart are the values that are times by their name
(`at`, `…_s`, `…_ms`, `seconds`), and the random names that the index of words gives its segments, with the digests and
fingerprints that follow from either. What is left has to be nothing. Writes benchmarks/results/determinism.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from faults import bases, children
from machine import environment, write_result

from mmse.lab.simulator.simulate import simulate

VARIANTS: tuple[dict[str, str], ...] = (
    {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Kolkata"},
    {"PYTHONHASHSEED": "4242", "LC_ALL": "tr_TR.UTF-8", "TZ": "America/St_Johns"},
)
"""The first one is what the others are compared with; the second is the same again."""
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
SEGMENT = re.compile(rb"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
TIME = re.compile(r"(^|\.)(at|seconds|load_before|.*_s|.*_ms|.*_us|ms|.*seconds.*|ms_.*|.*\.ms\..*)$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    shop = options.work / "shop" / "shop.toml"
    if not shop.exists():
        children.call(partial(simulate, bases.SHOP, shop.parent))
        shop.write_text(shop.read_text("utf-8").split("[truth]")[0] + bases.TRAIN, "utf-8")
    runs = [
        make_run(shop, options.work / str(number) / "same" / "run", variant) for number, variant in enumerate(VARIANTS)
    ]
    pairs = zip(runs[1:], VARIANTS[1:], strict=True)
    rows = [compare(runs[0], run) | {"environment": variant} for run, variant in pairs]
    write_result("determinism", environment() | {"compared_with": VARIANTS[0], "rows": rows})


def make_run(shop: Path, run: Path, variant: dict[str, str]) -> Path:
    """A run of `shop` under an environment; its report names its folders, so these have the same names."""
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "mmse", "run", str(shop), "--out", str(run)]
    subprocess.run(command, env=os.environ | THREADS | variant, check=True, stdout=subprocess.DEVNULL)
    return run


def compare(run: Path, other: Path) -> dict[str, Any]:
    """How many files are the same bytes, and why the others are not."""
    files, other_files = by_name(run), by_name(other)
    counts, differences = Counter[str](), list[str]()
    differences += [f"{name} is in one of them alone" for name in files.keys() ^ other_files.keys()]
    for name in sorted(files.keys() & other_files.keys()):
        contents = files[name].read_bytes(), other_files[name].read_bytes()
        if contents[0] == contents[1]:
            counts["same bytes"] += 1
        elif without_names(contents[0]) == without_names(contents[1]):
            counts["same but for names of segments"] += 1
        elif name.endswith(".json") and not (keys := differing_keys(*contents)):
            counts["same but for times, and digests of such files"] += 1
        else:
            differences.append(f"{name}: {keys[:8]}" if name.endswith(".json") else name)
    return {"files": len(files), **counts, "differ": differences}


def by_name(run: Path) -> dict[str, Path]:
    """The files of a run by their names, in which segments are numbered by what kind of file they are."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.name.endswith(".lock")]
    return {SEGMENT.sub(b"SEGMENT", str(path.relative_to(run)).encode()).decode(): path for path in files}


def without_names(content: bytes) -> bytes:
    """A file without the names of segments."""
    return SEGMENT.sub(b"SEGMENT", content)


def differing_keys(content: bytes, other: bytes) -> list[str]:
    """The keys of two JSON files that have other values and are no times; a list of files has no order."""
    documents = [json.loads(without_names(text)) for text in (content, other)]
    values, other_values = (dict(flatten(sorted(doc) if isinstance(doc, list) else doc)) for doc in documents)
    keys = [key for key in values.keys() | other_values.keys() if values.get(key) != other_values.get(key)]
    return sorted(key for key in keys if not TIME.search(key) and not is_derived(key))


def is_derived(key: str) -> bool:
    """Whether a value of a manifest follows from files that are looked at by themselves."""
    return key.startswith(("files.", "inputs.")) or key == "fingerprint"


def flatten(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The values of a JSON document by their paths."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from flatten(part, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from flatten(part, f"{prefix}.{number}")
    else:
        yield prefix, value


if __name__ == "__main__":
    main()
