"""One worker's application: the routes and the page, behind the gate."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import cast

from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.static_files import create_static_files_router

from mmse import __version__
from mmse.core.errors import MmseError
from mmse.serving.config import ServeConfig
from mmse.serving.failures import answer
from mmse.serving.middleware import ASGIApp, Gate
from mmse.serving.observability.tracing import tracer_of
from mmse.serving.routes import ROUTES
from mmse.serving.state import House

log = logging.getLogger(__name__)

_ABOUT = "Product search over a catalogue: embeddings and words in one list, with filters, likelihood and reasons."


def create(config: ServeConfig, opened: Callable[[bool], None] = lambda _: None) -> Gate:
    """The ASGI application; its versions are opened when it starts (the lifespan protocol).

    `opened` is told whether they could be.
    """
    tracing = tracer_of(config.otlp_endpoint)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        try:
            house = app.state.house = House.open(config)
        except Exception as error:
            log.critical("Cannot serve %s: %s", config.path, error, exc_info=not isinstance(error, MmseError))
            opened(False)
            raise
        opened(True)
        log.info("ready, serving %s", ", ".join(f"{arm}: {one.name}" for arm, one in house.fleet.arms.items()))
        try:
            yield
        finally:
            house.close()
            if tracing is not None:
                tracing.close()

    web = Path(str(files("mmse.serving") / "web"))
    app = Litestar(
        route_handlers=[*ROUTES, create_static_files_router("/", [web], html_mode=True, include_in_schema=False)],
        lifespan=[lifespan],
        exception_handlers={Exception: answer},
        openapi_config=OpenAPIConfig(
            title="MMSE",
            version=__version__,
            description=_ABOUT,
            render_plugins=(),
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
        ),
        request_max_body_size=config.write_bytes,
        logging_config=None,
        debug=False,
    )

    def full() -> bool:
        return bool(app.state.house.lane.full)

    return Gate(cast(ASGIApp, app), config, full, tracing)
