"""The two clients: one that blocks and one to be awaited, with the same methods.

A client may be shared by threads (or tasks), which then share its connections.
"""

from __future__ import annotations

import functools
import time
from asyncio import sleep as pause
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx
import msgspec

from mmse import __version__
from mmse.client import calls
from mmse.client.calls import Call
from mmse.client.replies import answer
from mmse.client.retries import Patience, Tries
from mmse.core.errors import UsageError

T = TypeVar("T")
P = ParamSpec("P")


def _asked(make: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """The method of `Client` that sends what `make` makes."""

    @functools.wraps(make)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(make(*args, **kwargs))

    return method


def _awaited(make: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The method of `AsyncClient` that sends what `make` makes."""

    @functools.wraps(make)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(make(*args, **kwargs))

    return method


class Client:
    """Calls to one `mmse serve` at `url`, such as `https://search.example`, perhaps with a path before the routes.

    A call that was refused (429, 503), or found no connection, is tried again up to `retries` times if it is
    repeatable, after the `Retry-After` that the server names. All of it together takes at most about `timeout_s`: a
    pause that would end later is not waited for. `transport` is httpx's, for tests or client certificates.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 5.0,
        retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._patience = Patience(timeout_s=timeout_s, retries=retries)
        self._http = httpx.Client(base_url=_base(url), headers=_headers(token), transport=transport)

    def send(self, call: Call[T]) -> T:
        """The answer to `call`."""
        tries = Tries(self._patience)
        while True:
            reply = self._reply(call, tries.left_s())
            pause_s = tries.pause_s(call, reply)
            if pause_s is None:
                return answer(call, reply, _shown(self._http.base_url))
            time.sleep(pause_s)

    def _reply(self, call: Call[T], timeout_s: float) -> httpx.Response | httpx.HTTPError:
        try:
            return self._http.request(**_request(call, timeout_s))
        except httpx.HTTPError as error:
            return error

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    search = _asked(calls.search)
    batch = _asked(calls.batch)
    embed = _asked(calls.embed)
    edit_items = _asked(calls.edit_items)
    put_item = _asked(calls.put_item)
    change_item = _asked(calls.change_item)
    delete_item = _asked(calls.delete_item)
    item = _asked(calls.item)
    send_events = _asked(calls.send_events)
    versions = _asked(calls.versions)
    set_live = _asked(calls.set_live)
    experiments = _asked(calls.experiments)
    assignments = _asked(calls.assignments)
    catalogue = _asked(calls.catalogue)
    item_map = _asked(calls.item_map)
    map_place = _asked(calls.map_place)
    health = _asked(calls.health)


class AsyncClient:
    """`Client`, to be awaited (asyncio)."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 5.0,
        retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = Patience(timeout_s=timeout_s, retries=retries)
        self._http = httpx.AsyncClient(base_url=_base(url), headers=_headers(token), transport=transport)

    async def send(self, call: Call[T]) -> T:
        """The answer to `call`."""
        tries = Tries(self._patience)
        while True:
            reply = await self._reply(call, tries.left_s())
            pause_s = tries.pause_s(call, reply)
            if pause_s is None:
                return answer(call, reply, _shown(self._http.base_url))
            await pause(pause_s)

    async def _reply(self, call: Call[T], timeout_s: float) -> httpx.Response | httpx.HTTPError:
        try:
            return await self._http.request(**_request(call, timeout_s))
        except httpx.HTTPError as error:
            return error

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    search = _awaited(calls.search)
    batch = _awaited(calls.batch)
    embed = _awaited(calls.embed)
    edit_items = _awaited(calls.edit_items)
    put_item = _awaited(calls.put_item)
    change_item = _awaited(calls.change_item)
    delete_item = _awaited(calls.delete_item)
    item = _awaited(calls.item)
    send_events = _awaited(calls.send_events)
    versions = _awaited(calls.versions)
    set_live = _awaited(calls.set_live)
    experiments = _awaited(calls.experiments)
    assignments = _awaited(calls.assignments)
    catalogue = _awaited(calls.catalogue)
    item_map = _awaited(calls.item_map)
    map_place = _awaited(calls.map_place)
    health = _awaited(calls.health)


def _request(call: Call[Any], timeout_s: float) -> dict[str, Any]:
    """The arguments of httpx for a call."""
    content = None if call.body is None else msgspec.json.encode(call.body)
    headers = {} if content is None else {"Content-Type": "application/json"}
    return {
        "method": call.method,
        "url": call.path,
        "params": call.params,
        "content": content,
        "headers": headers,
        "timeout": timeout_s,
    }


def _base(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{url!r} is no URL: {error}.", "Write it like http://localhost:8000.") from error
    if base.scheme not in {"http", "https"} or not base.host:
        raise UsageError(f"{url!r} is no http(s) URL.", "Write it like http://localhost:8000.")
    return base


def _headers(token: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": f"mmse/{__version__}"}
    return headers if token is None else {**headers, "Authorization": f"Bearer {token.strip()}"}


def _shown(url: httpx.URL) -> str:
    """`url` without the password that may be in it."""
    return f"{url.scheme}://{url.netloc.decode()}{url.path}"
