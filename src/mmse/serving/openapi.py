"""The API's description: routes as the framework knows them, bodies to the last bound."""

from __future__ import annotations

import json
from functools import cache

import msgspec
from litestar import Litestar

from mmse.schema import http as api


@cache
def described(app: Litestar) -> bytes:
    """The OpenAPI 3.1 document of `app`, as JSON.

    The framework leaves out what stands inside unions and lists (bounds, tags, that unknown fields are refused);
    msgspec, which checks the bodies, knows all of it.
    """
    document = app.openapi_schema.to_schema()
    bodies = [one for one in vars(api).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    _, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] |= {name: components[name] for name in components}
    for operation in document["paths"]["/v1/items/{item_id}"].values():
        operation["parameters"][0]["schema"] = components["Click"]["properties"]["item_id"]  # an id, not a path
    return json.dumps(document, ensure_ascii=False).encode()
