"""A typed client of `mmse serve`: calls that answer with the structs of `mmse.schema.http`, or raise one kind of error.

with Client("http://localhost:8000") as shop:
    for hit in shop.search("cordless drill", filter={"price": {"to": 100}}).hits:
        print(hit.rank, hit.title)
"""

from mmse.client.clients import AsyncClient, Client
from mmse.client.replies import ServiceError

__all__ = ["AsyncClient", "Client", "ServiceError"]
