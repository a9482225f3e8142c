"""MMSE: a shop's behaviour logs in, product search out.

    import mmse

    mmse.run("shop.toml", "run")
    hits = mmse.Retriever.open("run").search("wireless headphones")

Names are imported when they are first used, so `import mmse` itself is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmse.client import AsyncClient, Client
    from mmse.core.errors import MmseError
    from mmse.pipeline import embed, evaluate, make, mine, run, train
    from mmse.retrieval.retriever import Retriever
    from mmse.schema.search import Answer, Facet, Hit, Search
    from mmse.shop import Shop, read_shop

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "Facet",
    "Hit",
    "MmseError",
    "Retriever",
    "Search",
    "Shop",
    "embed",
    "evaluate",
    "make",
    "mine",
    "read_shop",
    "run",
    "train",
]

_MODULES = {
    "Answer": "mmse.schema.search",
    "AsyncClient": "mmse.client",
    "Client": "mmse.client",
    "Facet": "mmse.schema.search",
    "Hit": "mmse.schema.search",
    "MmseError": "mmse.core.errors",
    "Retriever": "mmse.retrieval.retriever",
    "Search": "mmse.schema.search",
    "Shop": "mmse.shop",
    "embed": "mmse.pipeline",
    "evaluate": "mmse.pipeline",
    "make": "mmse.pipeline",
    "mine": "mmse.pipeline",
    "read_shop": "mmse.shop",
    "run": "mmse.pipeline",
    "train": "mmse.pipeline",
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'mmse' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
