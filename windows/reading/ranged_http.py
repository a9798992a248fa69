"""HTTP through fsspec's own filesystem, told apart: an answer, a refusal, and another's answer.

`fsspec.implementations.http.HTTPFileSystem` (2026.9) reads the body before it looks at the status,
takes a whole file for a range, and calls every failure to learn a size a missing file. Here nothing
is read that was not asked for, and every failure keeps its name.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import getproxies

import aiohttp
from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

from windows.reading.faults import Fault, of_status
from windows.reading.limits import ReadLimits

# Bytes as they lie there, and a name for whoever runs the server.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "modehop"}
_PIECE = 1 << 20


class RangedHTTP(HTTPFileSystem):  # type: ignore[misc]
    """Files on HTTP servers, one session for all of them; close it.

    `cat_file` and `info` raise `Fault`.

    Parameters
    ----------
    limits
        Connections and timeout.
    """

    cachable = False

    def __init__(self, limits: ReadLimits) -> None:
        super().__init__(get_client=_session, client_kwargs={"limits": limits})
        self._limits = limits
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False

    def close(self) -> None:
        """Close all connections; requests under way and to come fail at once."""
        sync(self.loop, self._close)

    async def _close(self) -> None:
        self._closed = True
        # Closing the session alone leaves those waiting that have no connection yet.
        for task in self._under_way:
            task.cancel()
        if self._session is not None:
            await self._session.close()

    async def _cat_file(
        self,
        url: str,
        start: int | None = None,
        end: int | None = None,
        *,
        size: int | None = None,
        most: int = 0,
    ) -> bytes:
        """Return bytes ``[start, end)`` of a file of `size` bytes, or all of one of `most`."""
        if start is None or end is None:
            return await self._whole(url, most)
        headers = {"Range": f"bytes={start}-{end - 1}"}
        async with self._answer("GET", url, headers) as answer:
            _check_range(answer, start, end, size)
            return await answer.content.readexactly(end - start)

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, type and size; the size is None where the server does not tell it."""
        size = None
        try:
            async with self._answer("HEAD", url) as answer:
                if answer.headers.get("Content-Encoding", "identity") == "identity":
                    size = _number(answer.headers.get("Content-Length"))
        except Fault as fault:
            # Some servers answer GET only.
            if fault.status not in (405, 501):
                raise
        if size is None:
            async with self._answer("GET", url, {"Range": "bytes=0-0"}) as answer:
                size = _content_range(answer)[2]
        return {"name": url, "size": size, "type": "file"}

    async def _whole(self, url: str, most: int) -> bytes:
        async with self._answer("GET", url) as answer:
            pieces, left = [], most
            async for piece in answer.content.iter_chunked(_PIECE):
                pieces.append(piece)
                left -= len(piece)
                if left < 0:
                    raise Fault(f"the file has more than {most:,} bytes", lasting=True, do="")
            return b"".join(pieces)

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, headers: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._closed:
            raise self._fault(asyncio.CancelledError())
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            session = await self.set_session()
            request = session.request(method, self.encode_url(url), headers=headers)
            async with request as answer:
                if answer.status >= 400:
                    raise of_status(answer.status, answer.headers)
                yield answer
        except (aiohttp.ClientError, TimeoutError, EOFError, asyncio.CancelledError) as error:
            raise self._fault(error) from error
        finally:
            self._under_way.discard(task)

    def _fault(self, error: BaseException) -> Fault:
        if isinstance(error, asyncio.CancelledError):
            # fsspec would take a cancelled request for an answer of None.
            return Fault("the call was interrupted", lasting=True)
        if isinstance(error, TimeoutError):
            return Fault(f"no full answer within {self._limits.timeout:g} seconds")
        if isinstance(error, asyncio.IncompleteReadError):
            got = len(error.partial)
            return Fault(f"the answer ended after {got:,} of {error.expected:,} bytes")
        text = " ".join(str(error).split())[:120]
        what = f"{type(error).__name__}{': ' if text else ''}{text}"
        if isinstance(error, aiohttp.InvalidURL | aiohttp.ClientSSLError):
            return Fault(what, lasting=True, do="check the address")
        return Fault(what)


async def _session(*, loop: asyncio.AbstractEventLoop, limits: ReadLimits) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limits.connections),
        timeout=aiohttp.ClientTimeout(total=limits.timeout),
        headers=_HEADERS,
        # Proxies of the environment are used, as pip and the Hub's client use them; looking for
        # them takes a thread a request.
        trust_env=bool(getproxies()),
    )


def _check_range(answer: aiohttp.ClientResponse, start: int, end: int, size: int | None) -> None:
    """Look at the head of an answer to a ranged request, before any of its body is read."""
    if answer.status != 206:
        raise Fault(
            f"the server ignores Range: HTTP status {answer.status} with"
            f" {answer.headers.get('Content-Length', 'unknown')} bytes",
            lasting=True,
            do="serve the files from a server that answers ranged requests, or copy them here",
        )
    first, _, total = _content_range(answer)
    if size is not None and total is not None and total != size:
        raise Fault(
            f"the file has {total:,} bytes where the run says {size:,}",
            lasting=True,
            do="find out which is right: one wrong size changes the whole order",
        )
    length = _number(answer.headers.get("Content-Length"))
    if (first is not None and first != start) or (length is not None and length > end - start):
        raise Fault("the server answered with other bytes than were asked for")


def _content_range(answer: aiohttp.ClientResponse) -> tuple[int | None, int | None, int | None]:
    """Return first byte, last byte and size of ``bytes 0-99/1000``, None for what is not told."""
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first, _, last = span.partition("-")
    if unit != "bytes":
        return None, None, None
    return _number(first), _number(last), _number(total)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None
