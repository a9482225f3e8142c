"""The two clients, one blocking and one for asyncio, with the same methods.

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
from mmse.client.replies import read_reply
from mmse.client.retries import Attempts, RetryPolicy
from mmse.core.errors import UsageError

T = TypeVar("T")
P = ParamSpec("P")


def _blocking_method(make_call: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """The method of `Client` that sends the call of `make_call`."""

    @functools.wraps(make_call)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(make_call(*args, **kwargs))

    return method


def _async_method(make_call: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The method of `AsyncClient` that sends the call of `make_call`."""

    @functools.wraps(make_call)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(make_call(*args, **kwargs))

    return method


class Client:
    """Calls to one `mmse serve` at `url`, such as `https://search.example`, perhaps with a path before the routes.

    A repeatable call that was refused (429, 503) or got no connection is tried again up to `retries` times, after the
    `Retry-After` that the server names. All attempts together take at most about `timeout_s`; a pause that would end
    later is not made. `transport` is httpx's, for tests or client certificates.
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
        self._retry_policy = RetryPolicy(timeout_s=timeout_s, retries=retries)
        self._http = httpx.Client(base_url=_parse_url(url), headers=_headers(token), transport=transport)

    def send(self, call: Call[T]) -> T:
        """The answer to `call`."""
        attempts = Attempts(self._retry_policy)
        while True:
            reply = self._request(call, attempts.remaining_s())
            pause_s = attempts.pause_s(call, reply)
            if pause_s is None:
                return read_reply(call, reply, _display_url(self._http.base_url))
            time.sleep(pause_s)

    def _request(self, call: Call[T], timeout_s: float) -> httpx.Response | httpx.HTTPError:
        try:
            return self._http.request(**_request_arguments(call, timeout_s))
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

    search = _blocking_method(calls.search)
    batch = _blocking_method(calls.batch)
    embed = _blocking_method(calls.embed)
    edit_items = _blocking_method(calls.edit_items)
    put_item = _blocking_method(calls.put_item)
    change_item = _blocking_method(calls.change_item)
    delete_item = _blocking_method(calls.delete_item)
    item = _blocking_method(calls.item)
    send_events = _blocking_method(calls.send_events)
    versions = _blocking_method(calls.versions)
    set_live = _blocking_method(calls.set_live)
    experiments = _blocking_method(calls.experiments)
    assignments = _blocking_method(calls.assignments)
    suggest = _blocking_method(calls.suggest)
    catalogue = _blocking_method(calls.catalogue)
    item_map = _blocking_method(calls.item_map)
    map_place = _blocking_method(calls.map_place)
    health = _blocking_method(calls.health)


class AsyncClient:
    """`Client` for asyncio."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 5.0,
        retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry_policy = RetryPolicy(timeout_s=timeout_s, retries=retries)
        self._http = httpx.AsyncClient(base_url=_parse_url(url), headers=_headers(token), transport=transport)

    async def send(self, call: Call[T]) -> T:
        """The answer to `call`."""
        attempts = Attempts(self._retry_policy)
        while True:
            reply = await self._request(call, attempts.remaining_s())
            pause_s = attempts.pause_s(call, reply)
            if pause_s is None:
                return read_reply(call, reply, _display_url(self._http.base_url))
            await pause(pause_s)

    async def _request(self, call: Call[T], timeout_s: float) -> httpx.Response | httpx.HTTPError:
        try:
            return await self._http.request(**_request_arguments(call, timeout_s))
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

    search = _async_method(calls.search)
    batch = _async_method(calls.batch)
    embed = _async_method(calls.embed)
    edit_items = _async_method(calls.edit_items)
    put_item = _async_method(calls.put_item)
    change_item = _async_method(calls.change_item)
    delete_item = _async_method(calls.delete_item)
    item = _async_method(calls.item)
    send_events = _async_method(calls.send_events)
    versions = _async_method(calls.versions)
    set_live = _async_method(calls.set_live)
    experiments = _async_method(calls.experiments)
    assignments = _async_method(calls.assignments)
    suggest = _async_method(calls.suggest)
    catalogue = _async_method(calls.catalogue)
    item_map = _async_method(calls.item_map)
    map_place = _async_method(calls.map_place)
    health = _async_method(calls.health)


def _request_arguments(call: Call[Any], timeout_s: float) -> dict[str, Any]:
    """The arguments of httpx's `request` for a call."""
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


def _parse_url(url: str) -> httpx.URL:
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


def _display_url(url: httpx.URL) -> str:
    """`url` without a password."""
    return f"{url.scheme}://{url.netloc.decode()}{url.path}"
