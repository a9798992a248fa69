"""An HTTP server on loopback that serves a folder in ranges, and fails as it is told."""

import contextlib
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

CHUNK = 1 << 16


@dataclass(frozen=True)
class Request:
    """One request: `span` is its range, half-open; `port` the client's, one a connection."""

    method: str
    path: str
    span: tuple[int, int] | None
    port: int
    headers: dict[str, str]


@dataclass
class Fault:
    """What happens instead of an answer, to the next `times` requests that fit.

    ``status`` answers with `value`; ``ignore-range`` with the whole file; ``reset`` breaks the
    connection and ``cut`` closes it after `value` bytes of the body; ``short`` answers with `value`
    bytes fewer and says so; ``shift`` with a range `value` bytes further on; ``more`` with `value`
    bytes too many; ``size`` says that the file has `value` bytes; ``slow`` waits `value` seconds
    before it answers; ``no-size`` leaves out the length.
    """

    kind: str
    value: float = 0
    times: float = 1
    path: str | None = None
    method: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def fits(self, request: Request) -> bool:
        return (
            self.times > 0
            and self.path in (None, request.path)
            and self.method in (None, request.method)
        )


class FaultyServer:
    """Serves the files of a folder; a context manager.

    Attributes
    ----------
    url
        Without a slash at its end.
    delay
        Seconds that every answer takes at least.
    requests
        Every request, in the order in which they came.
    met
        The kinds of the faults that requests have met.
    most_at_once
        Requests that were under way at once, at most.
    sent
        Bytes of bodies.
    pages
        Bodies by path, instead of files: for what is asked of an API.
    """

    def __init__(self, folder: Path, *, delay: float = 0) -> None:
        self.folder = folder
        self.delay = delay
        self.requests: list[Request] = []
        self.met: list[str] = []
        self.most_at_once = 0
        self.sent = 0
        self.pages: dict[str, bytes] = {}
        self._faults: list[Fault] = []
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _Server(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def fail(self, kind: str, value: float = 0, **rest: Any) -> None:
        """Let requests meet a fault; the first that fits a request is met. See `Fault`."""
        self._faults.append(Fault(kind, value, **rest))

    def ranges(self) -> list[tuple[str, tuple[int, int] | None]]:
        """Return path and range of every GET."""
        return [(each.path, each.span) for each in self.requests if each.method == "GET"]

    def forget(self) -> None:
        """Forget the requests so far."""
        self.requests.clear()
        self.met.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.break_connections()
        self._http.server_close()
        self._thread.join()
        if error is None:
            assert self._http.errors == []

    @contextlib.contextmanager
    def took(self, request: Request) -> Iterator[Fault | None]:
        """Count a request, and yield the fault it meets."""
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            fault = next((each for each in self._faults if each.fits(request)), None)
            if fault is not None:
                fault.times -= 1
                self.met.append(fault.kind)
        try:
            yield fault
        finally:
            with self._lock:
                self._at_once -= 1

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the server's end."""
        if seconds:
            self._closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    # So that closing waits for the threads.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, owner: FaultyServer) -> None:
        self.owner = owner
        self.errors: list[BaseException | None] = []
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        for each in list(self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # Clients go away, and faults break connections.
        if not isinstance(error, OSError | ValueError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        owner = self.server.owner
        with owner.took(self.request_seen()) as fault:
            owner.wait(owner.delay)
            self.answer(fault)

    do_HEAD = do_POST = do_GET

    def request_seen(self) -> Request:
        parts = urlsplit(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        span = (int(asked[1]), int(asked[2]) + 1) if asked else None
        path = unquote(parts.path)
        if body := int(self.headers.get("Content-Length", 0)):
            self.rfile.read(body)
        headers = dict(self.headers.items())
        self.seen = Request(self.command, path, span, self.client_address[1], headers)
        return self.seen

    def answer(self, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        if fault and kind == "status":
            return self.plain(int(fault.value), fault.headers)
        if fault and kind == "slow":
            self.server.owner.wait(fault.value)
        page = self.server.owner.pages.get(self.seen.path)
        if page is not None:
            return self.plain(200, {"Content-Type": "application/json"}, page)
        file = self.server.owner.folder / self.seen.path.lstrip("/")
        if ".." in file.parts or not file.is_file():
            return self.plain(404)
        size = file.stat().st_size
        if self.seen.span is None or kind == "ignore-range":
            return self.send(file, 0, size, 200, fault)
        start, end = self.seen.span
        if start >= size:
            return self.plain(416, {"Content-Range": f"bytes */{size}"})
        return self.ranged(file, start, min(end, size), fault)

    def ranged(self, file: Path, start: int, end: int, fault: Fault | None) -> None:
        kind, value = (fault.kind, int(fault.value)) if fault else ("", 0)
        if kind == "short":
            end -= value
        if kind == "more":
            end += value
        if kind == "shift":
            start, end = start + value, end + value
        self.send(file, start, end, 206, fault)

    def plain(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send(self, file: Path, start: int, end: int, status: int, fault: Fault | None) -> None:
        kind, value = (fault.kind, int(fault.value)) if fault else ("", 0)
        self.send_response(status)
        if kind == "no-size":
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(end - start))
        if status == 206:
            size = value if kind == "size" else file.stat().st_size
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind in ("reset", "cut"):
            self.body(file, start, start + value)
            self.break_off(reset=kind == "reset")
        else:
            self.body(file, start, end)

    def body(self, file: Path, start: int, end: int) -> None:
        with file.open("rb") as stream:
            stream.seek(start)
            while start < end:
                piece = stream.read(min(CHUNK, end - start))
                if not piece:
                    return
                self.wfile.write(piece)
                self.server.owner.sent += len(piece)
                start += len(piece)

    def break_off(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # Let what was sent arrive: a reset may overtake it.
            time.sleep(0.01)
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(self.connection.detach())

    def log_message(self, format: str, *arguments: object) -> None:
        pass
