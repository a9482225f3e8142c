"""The optional parts of mmse: what each is for, what it needs, and the command that installs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from mmse.core.errors import UsageError


@dataclass(frozen=True)
class Extra:
    """An optional part of mmse: `mmse[name]`, and the modules that it brings."""

    name: str
    purpose: str
    modules: tuple[str, ...]

    @property
    def command(self) -> str:
        """What installs it."""
        return f"pip install 'mmse[{self.name}]'"

    @property
    def absent_modules(self) -> list[str]:
        """The modules that are not installed."""
        return [module for module in self.modules if find_spec(module) is None]


EXTRAS: Mapping[str, Extra] = {
    extra.name: extra
    for extra in (
        Extra("serve", "serving over HTTP", ("granian", "litestar", "prometheus_client")),
        Extra("client", "the Python client of a server", ("httpx",)),
        Extra("experiment", "the analysis of online tests", ("tea_tasting", "jinja2")),
        Extra("report", "the report as a page", ("plotly",)),
        Extra("map", "the map of the catalogue", ("openTSNE",)),
        Extra("lab", "the research rig", ("granian", "httpx", "jinja2", "litestar", "plotly", "tea_tasting")),
        Extra("milvus", "the vector store Milvus", ("pymilvus",)),
        Extra("otel", "traces by OpenTelemetry", ("opentelemetry",)),
        Extra("spark", "mining and embedding on Spark", ("pyspark", "py4j")),
        Extra("transformer", "pretrained sentence encoders", ("transformers",)),
    )
}


def is_installed(name: str) -> bool:
    """Whether all modules of an extra are installed."""
    return not EXTRAS[name].absent_modules


def extra_of(module: str | None) -> Extra | None:
    """The first extra that brings `module`, given by its dotted name; None where none does."""
    top = (module or "").partition(".")[0]
    return next((extra for extra in EXTRAS.values() if top in extra.modules), None)


def require_extra(name: str) -> None:
    """Raises `UsageError` with the command that installs the extra `name`, where it is not installed."""
    extra = EXTRAS[name]
    if absent_modules := extra.absent_modules:
        raise UsageError(
            f"{extra.purpose[0].upper()}{extra.purpose[1:]} needs {', '.join(absent_modules)}.",
            f"Install it: {extra.command}.",
        )
