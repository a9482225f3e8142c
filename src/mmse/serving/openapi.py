"""The description of the API: routes from the framework, bodies with all their bounds from msgspec."""

from __future__ import annotations

import json
from functools import cache

import msgspec
from litestar import Litestar

from mmse.schema import http, http_admin, http_events


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
