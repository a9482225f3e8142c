"""A typed client of `mmse serve`: calls that answer with the structs of `mmse.schema.http`, or raise one kind of error.

with Client("http://localhost:8000") as shop:
    for hit in shop.search("cordless drill", filter={"price": {"to": 100}}).hits:
        print(hit.rank, hit.title)
"""

from mmse.core.extras import require_extra

require_extra("client")

from mmse.client.clients import AsyncClient, Client  # noqa: E402 - only where httpx is
from mmse.client.replies import ServiceError  # noqa: E402

__all__ = ["AsyncClient", "Client", "ServiceError"]
