"""The description of the API: routes from the framework, bodies with all their bounds from msgspec."""

from __future__ import annotations

import json
from functools import cache

import msgspec
from litestar import Litestar
from litestar.openapi.datastructures import ResponseSpec

from mmse.schema import http, http_admin, http_events
from mmse.schema.http import Failure
from mmse.serving.failures import STATUS

_STATUS_TEXTS = {
    400: "The request is malformed",
    401: "The token is missing or wrong",
    403: "The token is for something else",
    404: "There is no such thing",
    409: "The server does not take this",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "What is asked does not fit the catalogue",
    429: "Too many requests",
    500: "A fault of the server",
    503: "Too busy",
    504: "Not answered in time",
    507: "The disk refuses to take it",
}


def error_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """The error responses of a route, for the description of the API."""
    return {
        status: ResponseSpec(Failure, description=_STATUS_TEXTS[status], generate_examples=False)
        for status in sorted({*statuses, 400, 429, 500, 504})
    }


@cache
def build_document(app: Litestar) -> bytes:
    """The OpenAPI 3.1 document of `app`, as JSON.

    The framework leaves out what is inside unions and lists (bounds, tags, that unknown fields are refused); msgspec,
    which checks the bodies, has all of it.
    """
    document = app.openapi_schema.to_schema()
    bodies = [
        struct
        for module in (http, http_admin, http_events)
        for struct in vars(module).values()
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct)
    ]
    _, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] |= {name: components[name] for name in components}
    for operation in document["paths"]["/v1/items/{item_id}"].values():
        operation["parameters"][0]["schema"] = components["Click"]["properties"]["item_id"]  # an id, not a path
    return json.dumps(document, ensure_ascii=False).encode()


assert set(_STATUS_TEXTS) <= set(STATUS.values())
