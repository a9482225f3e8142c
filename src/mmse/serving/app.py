"""One worker's application: the routes and the page, within the layers that every request passes."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import cast

from litestar import Litestar, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.static_files import create_static_files_router

from mmse import __version__
from mmse.core.errors import MmseError
from mmse.serving.config import METRICS_FOLDER, ServeConfig
from mmse.serving.failures import respond
from mmse.serving.middleware.addresses import ClientAddresses
from mmse.serving.middleware.asgi import ASGIApp, HttpOnly
from mmse.serving.middleware.limits import BodyLimits, LoadShedding, RateLimit, TimeLimit
from mmse.serving.middleware.origins import CrossOrigin
from mmse.serving.middleware.rates import RequestRates
from mmse.serving.middleware.request_ids import RequestIds
from mmse.serving.middleware.responses import ErrorResponses, ResponseHeaders
from mmse.serving.middleware.targets import RequestTargets
from mmse.serving.middleware.telemetry import Telemetry
from mmse.serving.observability.tracing import Tracing, open_tracing
from mmse.serving.routes import ROUTES
from mmse.serving.state import ServerState

log = logging.getLogger(__name__)

_DESCRIPTION = (
    "Product search over a catalogue: embeddings and words in one list, with filters, likelihood and reasons."
)


def create(config: ServeConfig, report_start: Callable[[bool], None] = lambda _: None) -> ASGIApp:
    """The ASGI application; it opens its versions when it starts (the lifespan protocol).

    It calls `report_start` with whether it could open them.
    """
    tracing = open_tracing(config.otlp_endpoint)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        try:
            server = app.state.server = ServerState.open(config)
        except Exception as error:
            log.critical("Cannot serve %s: %s", config.path, error, exc_info=not isinstance(error, MmseError))
            report_start(False)
            raise
        report_start(True)
        log.info("ready, serving %s", server.models)
        try:
            yield
        finally:
            server.close()
            if tracing is not None:
                tracing.close()

    web = Path(str(files("mmse.serving") / "web"))
    app = Litestar(
        route_handlers=[*ROUTES, create_static_files_router("/", [web], html_mode=True, include_in_schema=False)],
        lifespan=[lifespan],
        exception_handlers={Exception: respond},
        openapi_config=OpenAPIConfig(
            title="MMSE",
            version=__version__,
            description=_DESCRIPTION,
            openapi_router=Router(path="/schema", route_handlers=[], guards=[_hide], include_in_schema=False),
            servers=[Server(url="./", description="Where this description lies, also behind a proxy's prefix.")],
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
        ),
        request_max_body_size=config.write_bytes,
        logging_config=None,
        debug=False,
    )

    def is_full() -> bool:
        return bool(app.state.server.handler.is_full)

    return wrap(cast(ASGIApp, app), config, is_full, tracing)


def _hide(*_: object) -> None:
    """The framework's own pages of the API's description load scripts from elsewhere; /openapi.json is ours."""
    raise NotFoundException


def wrap(app: ASGIApp, config: ServeConfig, is_full: Callable[[], bool], tracing: Tracing | None = None) -> ASGIApp:
    """`app` within its layers, from the innermost to the outermost; `is_full` says when searches are refused."""
    layers: ASGIApp = RequestTargets(TimeLimit(app, config.request_timeout_s))
    layers = BodyLimits(layers, search_bytes=config.search_bytes, write_bytes=config.write_bytes)
    layers = LoadShedding(layers, is_full)
    shared_folder = Path(os.environ[METRICS_FOLDER]) if METRICS_FOLDER in os.environ else None
    rates = RequestRates.open(config.requests_per_s, shared_folder)
    layers = RateLimit(layers, config.requests_per_s, rates, ClientAddresses(config.proxies))
    layers = ErrorResponses(layers)
    layers = CrossOrigin(layers, config.cors_origins) if config.cors_origins else layers
    layers = ResponseHeaders(layers, config.image_hosts)
    layers = Telemetry(layers, access_log=config.access_log, log_queries=config.log_queries, tracing=tracing)
    return HttpOnly(RequestIds(layers), app)
