"""The parsers of what comes from anybody, each with seeds and with the errors that it may raise.

A target gets the bytes of one execution. What it raises beside an `MmseError`, or what msgspec says of a body, is a
failure; so is a check of its own that does not hold.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import httpx
import msgspec
import numpy as np

from mmse.catalogue import wal
from mmse.catalogue.edits import Delete, Upsert
from mmse.client import calls
from mmse.client.replies import read_reply
from mmse.core import artifact, frames
from mmse.core.json_files import write_json
from mmse.cycle.record import read_records
from mmse.experiment.assignment import read_experiment
from mmse.index.base import damage_error
from mmse.index.columns import FilterColumns
from mmse.index.speller import Speller
from mmse.ranking.rule_file import read_rules
from mmse.ranking.rulebook import Rulebook
from mmse.schema import http, http_admin, http_events
from mmse.schema.filters import Kind, parse_filter, parse_terms
from mmse.schema.user_ids import UserSalt
from mmse.serving.events import stream
from mmse.serving.events.rows import SCHEMA
from mmse.serving.experiments import read_experiments
from mmse.serving.middleware.addresses import ClientAddresses, parse_networks
from mmse.serving.middleware.asgi import Message, Receive, Scope, Send
from mmse.serving.middleware.targets import RequestTargets
from mmse.serving.tokens import parse_tokens
from mmse.serving.versions import site_file
from mmse.serving.wire import build_search
from mmse.shop import read_shop
from mmse.text.codes import codes
from mmse.text.exclusions import split_exclusions
from mmse.text.normalise import normalise, word_spans, words
from mmse.text.terms import main_terms, terms

T = TypeVar("T")
KINDS = {"brand": Kind.NAME, "category": Kind.PATH, "price": Kind.NUMBER, "available": Kind.FLAG}
BODIES = (
    http.SearchRequest,
    http.SearchBatch,
    http.EmbedRequest,
    http_admin.ItemEdits,
    http_admin.SetLiveRequest,
    http_admin.AssignmentsRequest,
    http_events.EventBatch,
)
TITLES = ("Red enamel kettle", "Cordless drill 18 V", "LED lamp 10W", "men's shoe size 42", "kettle filter")
MANIFEST = (
    b'{"kind": "index", "schema_version": 2, "config": {"a": 1}, "inputs": {"model": "ab"}, "counts": {}, "files": '
    b'{"a/b.npy": "12:0123456789abcdef0123456789abcdef"}, "fingerprint": "ff", "made": {"at": "2026", "mmse": "1"}}'
)
SHOP = (
    b'[items]\nsource = "items.csv"\n[items.columns]\ntitle = "name"\n[events]\nsource = "events/*.parquet"\n'
    b'[train]\nepochs = 2\n[train.objective]\nrank_weight = 8.0\n[index]\nkind = "ivf"\n'
)
RULE = (
    b'[[pin]]\nname = "p"\nquery = "drill"\nitems = ["i1"]\n[[boost]]\nname = "b"\nquery = "*"\nfactor = 1.5\n'
    b'where = { price = { to = 20 } }\nfrom = 2026-01-01\n[[synonym]]\nname = "s"\nwords = ["sofa", "couch"]\n'
    b'[[redirect]]\nname = "r"\nquery = "returns"\nurl = "https://a.example"\n'
)
EXPERIMENT = b'name = "x"\nunit = "user"\ntraffic = 0.5\n[arms.a]\n[arms.b]\nchannel = "lexical"\nweight = 2.0\n'


@dataclass(frozen=True)
class FuzzTarget:
    """What is done with the bytes of an execution, and what they are first."""

    run: Callable[[bytes], object]
    seeds: Sequence[bytes]


def build_targets(folder: Path) -> dict[str, FuzzTarget]:
    """Every target by name; files are written into `folder`."""
    return {
        "query text": FuzzTarget(read_query, (b"Men's 1/2 inch drill -cordless 18V", "Größe 42 靴 №5".encode())),
        "spelling": FuzzTarget(build_spelling(folder), (b"cordles dril", b"ketle filter led")),
        "rules": FuzzTarget(read_rule_text, (RULE,)),
        "filter": FuzzTarget(
            lambda data: parse_filter(decode_body(data, object), KINDS),
            (b'{"or": [{"brand": ["Bosch"]}, {"not": {"price": {"from": 1, "to": 2.5}}}], "available": true}',),
        ),
        "filter terms": FuzzTarget(
            lambda data: parse_terms(decode(data).split("\n"), KINDS), (b"price=10..20\nbrand=Bosch\navailable=true",)
        ),
        "request body": FuzzTarget(
            read_body,
            (
                b'\0{"query": "drill", "k": 3, "filter": {"price": {"to": 9}}, "boosts": [], "facets": ["brand"]}',
                b'\3{"upsert": [{"item_id": "a", "title": "b"}], "change": [], "delete": ["c"]}',
                b'\6{"events": [{"type": "click", "request_id": "r", "item_id": "i", "timestamp": 1.5}]}',
            ),
        ),
        "path and query string": FuzzTarget(read_target, (b"/v1/items/a%2Fb?", b"/v1/search?q=a%20b&filter=price=..2")),
        "forwarded address": FuzzTarget(read_address, (b"10.0.0.7, 192.168.1.1", b"2001:db8::1, fe80::1%eth0")),
        "tokens": FuzzTarget(parse_tokens, (b"# a\nsearch 0123456789abcdef\nitems,events fedcba9876543210\n",)),
        "salt": FuzzTarget(in_file(folder / "salt", UserSalt.read), (b"0123456789abcdef0123456789abcdef\n",)),
        "shop.toml": FuzzTarget(in_file(folder / "shop.toml", read_shop), (SHOP,)),
        "experiment.toml": FuzzTarget(in_file(folder / "experiment.toml", read_experiment), (EXPERIMENT,)),
        "manifest": FuzzTarget(
            in_file(folder / "index" / "manifest.json", lambda file: artifact.read_manifest(file.parent, "index")),
            (MANIFEST,),
        ),
        "files of a site": FuzzTarget(build_site(folder / "site"), site_seeds(folder / "site")),
        "column files": FuzzTarget(build_columns(folder), (b'{"rows": 2, "columns": []}',)),
        "vector header": FuzzTarget(in_file(folder / "v.npy", open_vectors), (npy_seed(folder),)),
        "frames of events": FuzzTarget(read_stream, stream_seeds()),
        "log of edits": FuzzTarget(read_log(folder / "journal-0"), log_seeds(folder / "journal-seed")),
        "reply to a client": FuzzTarget(
            read_answer,
            (b'\1{"request_id": "r", "version": "1", "arm": null, "hits": []}', b'\xff{"error": {"code": "a"}}'),
        ),
    }


def decode(data: bytes) -> str:
    """Text as it comes in: HTTP and files take UTF-8 alone."""
    return data.decode("utf-8", "replace")


def decode_body(data: bytes, kind: type[T]) -> T:
    """As the server does, which says of these two errors, too, that the request is malformed."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def read_query(data: bytes) -> None:
    text = decode(data)[:2_000]
    normal = normalise(text)
    assert normalise(normal) == normal, "the normal form of a normal form"
    for start, end in word_spans(text):
        assert 0 <= start < end <= len(text)
    words(text), terms(text), main_terms(text), codes(text), split_exclusions(text)


def build_spelling(folder: Path) -> Callable[[bytes], object]:
    def stem(text: str) -> list[str]:
        return [word.removesuffix("s") for word in words(text)]

    place = folder / "speller"
    place.mkdir()
    Speller.write(place, TITLES * 20, {"cordless drill": 50, "kettle": 40, "shoes": 30}, stem, {"shose": "shoe"})
    speller = Speller.open(place, {"cordless drill": 50, "kettle": 40}, stem)

    def correct(data: bytes) -> None:
        text = decode(data)[:200]
        speller.correct(text, speller.knows)
        speller.variant(text)
        for word in words(text)[:2]:
            speller.near(word), speller.parts(word), speller.compounds(word)

    return correct


def read_answer(data: bytes) -> None:
    reply = httpx.Response(200 if data[:1] < b"\x80" else 500, content=data[1:])
    read_reply(calls.search("a"), reply, "http://a")


def read_rule_text(data: bytes) -> None:
    rules = read_rules(decode(data), KINDS)
    rules.apply("cordless drill sofa", datetime(2026, 6, 1, tzinfo=UTC))


def read_body(data: bytes) -> None:
    kind = BODIES[data[0] % len(BODIES)] if data else BODIES[0]
    body: Any = decode_body(data[1:], kind)
    for search in getattr(body, "searches", [body] if kind is http.SearchRequest else []):
        build_search(search, KINDS)
    msgspec.json.encode(body)


async def _answer_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers nothing."""


async def _receive() -> Message:
    return {}


async def _send(message: Message) -> None:
    """Nowhere."""


_TARGETS = RequestTargets(_answer_nothing)


def read_target(data: bytes) -> None:
    """As a server hands it on: the raw path, the path decoded with its errors replaced, the query string."""
    raw, _, query = data.partition(b"?")
    path = decode(unquote_to_bytes(raw))
    scope = {"method": "GET", "path": path, "raw_path": raw, "query_string": query}
    answer = _TARGETS(scope, _receive, _send)
    assert isinstance(answer, Coroutine)
    answer.close()
    assert "\0" not in scope["path"]
    assert "/items/" not in path or scope["path"].count("/") == 3, scope["path"]


def read_address(data: bytes) -> None:
    found = ClientAddresses(["10.0.0.0/8"]).find("10.0.0.7", {b"x-forwarded-for": data})
    assert re.fullmatch(r"[0-9a-fA-F.:]+(%.+)?", found), found
    parse_networks([decode(data)])


def in_file(file: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Writes the bytes into a file, and reads it."""
    file.parent.mkdir(parents=True, exist_ok=True)

    def run(data: bytes) -> None:
        file.write_bytes(data)
        read(file)

    return run


SITE_FILES: dict[str, Callable[[Path], object]] = {
    "serving.json": site_file.read_site,
    "versions/1/version.json": lambda site: site_file.read_version(site, "1"),
    "experiments.json": read_experiments,
    "rules/current.json": lambda site: Rulebook(site / "rules", KINDS).history(),
    "cycles/0001/cycle.json": read_records,
}


def build_site(site: Path) -> Callable[[bytes], object]:
    """The first byte says which file of a site it is."""
    files = list(SITE_FILES.items())
    for name, _ in files:
        (site / name).parent.mkdir(parents=True, exist_ok=True)

    def run(data: bytes) -> None:
        name, read = files[data[0] % len(files)] if data else files[0]
        (site / name).write_bytes(data[1:])
        read(site)

    return run


def site_seeds(site: Path) -> list[bytes]:
    change = {"at": "2026", "by": "a", "note": "", "arm": "live", "what": "publish", "was": None, "now": "0001"}
    arms = {"a": {}, "b": {"serves": "live", "explore": {"share": 0.2}}}
    allocation = {"experiment": {"name": "x", "arms": arms, "traffic": 0.5}, "buckets": [[0, 5000]], "since": "2026"}
    contents = (
        {"arms": {"live": "0001"}, "history": [change], "schema_version": 1},
        {"at": "2026", "by": "a", "note": "", "fingerprint": "ff", "schema_version": 1, "revision": 0},
        {"running": {"experiments": [allocation], "holdout": 0.1}, "history": [], "schema_version": 1},
        {"publication": {"version": 1, "at": "2026", "by": "", "note": "", "digest": "ab"}, "history": []},
        {"number": 1, "started_at": "2026", "outcome": "published", "findings": []},
    )
    seeds = []
    for number, content in enumerate(contents):
        seeds.append(bytes([number]) + msgspec.json.encode(content))
        write_json(site / "seed.json", content)
        seeds.append(bytes([number]) + (site / "seed.json").read_bytes())
    return seeds


def build_columns(folder: Path) -> Callable[[bytes], object]:
    place = folder / "columns"
    place.mkdir()
    np.save(place / "column0.npy", np.zeros(2))
    return in_file(place / "columns.json", lambda file: FilterColumns.open(file.parent))


def open_vectors(file: Path) -> None:
    try:
        np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # as `mmse.index.embedding.open_array`
        raise damage_error(file, error) from error


def npy_seed(folder: Path) -> bytes:
    np.save(folder / "seed.npy", np.ones((2, 4), np.float32))
    return (folder / "seed.npy").read_bytes()


def read_stream(data: bytes) -> None:
    """Frames as they are, or, after a byte below 128, the rest as the body of a frame whose checksums are right."""
    framed = frames.encode_frame(data[1:]) * 2 if data[:1] < b"\x80" else data[1:]
    stream.decode(stream.encode_schema(SCHEMA) + framed, SCHEMA)
    end = frames.find_frame(framed, 0)
    assert end == len(framed) or frames.read_body(framed, end) is not None
    frames.is_torn(framed, 0)


def stream_seeds() -> list[bytes]:
    return [b"\0abc", b"\xff" + frames.encode_frame(b"abc"), b"\xff" + stream.encode_schema(SCHEMA)[:200]]


def read_log(file: Path) -> Callable[[bytes], object]:
    """As `read_stream`, of a log of edits: its header comes first."""

    def run(data: bytes) -> None:
        content = frames.encode_frame(data[1:]) if data[:1] < b"\x80" else data[1:]
        file.write_bytes(content)
        _, start = wal.read_header(file)
        wal.read(file, start)

    return run


def log_seeds(file: Path) -> list[bytes]:
    header = wal.WalHeader(schema_version=wal.SCHEMA_VERSION, generation=0, origin="a", base=None, version=0)
    wal.create(file, header, wal.encode_frames([Upsert({"item_id": "a"}), Delete("b")]))
    content = file.read_bytes()
    body = frames.read_body(content, content.find(frames.MARK))
    return [b"\xff" + content, b"\0" + (body or b"")]


ADMISSIBLE = (msgspec.DecodeError, msgspec.ValidationError)
"""What a server answers with 400: no JSON, or not of the form."""


def make_folder() -> Path:
    """A folder in memory where there is one, since most targets write a file for each execution."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="mmse-fuzz-", dir=memory if memory.is_dir() else None))
