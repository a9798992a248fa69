"""Files on servers, through fsspec: HTTP, S3, Google's and the Hugging Face Hub's."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from windows.errors import ConfigError, DataError
from windows.reading.faults import Fault
from windows.reading.limits import ReadLimits
from windows.reading.retry import Retry

T = TypeVar("T")


class Remote:
    """The servers that one call talks to: a context manager, for any number of threads.

    Every request is tried again as `Retry` says. fsspec is imported at the first.

    Parameters
    ----------
    limits
        Connections, attempts, timeout.
    """

    def __init__(self, limits: ReadLimits) -> None:
        self.retry = Retry(limits)
        self._limits = limits
        self._opened: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.halt()

    def halt(self) -> None:
        """End what is under way, and close all connections."""
        self.retry.halt()
        with self._lock:
            # The others are fsspec's own, kept for the whole process.
            if "http" in self._opened:
                self._opened["http"].close()

    def read(self, url: str, offset: int, length: int, size: int) -> bytes:
        """Return bytes ``[offset, offset + length)`` of a file of `size` bytes, in one request.

        Raises
        ------
        DataError
            They cannot be had.
        ConfigError
            There is no way to such an address.
        """
        filesystem = self._filesystem(url)
        hints: dict[str, Any] = {"size": size}
        if _protocol(url) != "http":
            # A range is read through an open file, which reads far ahead unless told not to.
            hints = {} if filesystem.async_impl else {"size": size, "cache_type": "none"}

        def attempt() -> bytes:
            data: bytes = filesystem.cat_file(url, start=offset, end=offset + length, **hints)
            if len(data) != length:
                raise Fault(f"the answer has {len(data):,} of {length:,} bytes")
            return data

        return self._tried(attempt, f"bytes [{offset}, {offset + length}) cannot be read", url)

    def size(self, url: str) -> int:
        """Return a file's bytes, without reading any.

        Raises
        ------
        Fault
            It is not there, or the server does not tell.
        ConfigError
            There is no way to such an address.
        """
        filesystem = self._filesystem(url)

        def attempt() -> int:
            size = filesystem.info(url)["size"]
            if size is None:
                do = "give the sizes in a manifest"
                raise Fault("the server does not tell the size", lasting=True, do=do)
            return int(size)

        return self.retry.run(attempt)

    def whole(self, url: str, most: int) -> bytes:
        """Return all bytes of a file.

        Raises
        ------
        DataError
            They cannot be had, or are more than `most`.
        ConfigError
            There is no way to such an address.
        """
        filesystem = self._filesystem(url)

        def attempt() -> bytes:
            if _protocol(url) == "http":
                # It counts while it reads: HTTP servers need not know the size.
                data: bytes = filesystem.cat_file(url, most=most)
                return data
            size = filesystem.info(url)["size"]
            if size is not None and size > most:
                raise Fault(f"the file has more than {most:,} bytes", lasting=True, do="")
            data = filesystem.cat_file(url)
            return data

        return self._tried(attempt, "the file cannot be fetched", url)

    def _tried(self, attempt: Callable[[], T], what: str, url: str) -> T:
        try:
            return self.retry.run(attempt)
        except Fault as fault:
            raise DataError(what, where=url, got=fault.what, do=fault.do) from fault

    def _filesystem(self, url: str) -> Any:
        protocol = _protocol(url)
        with self._lock:
            if protocol not in self._opened:
                self._opened[protocol] = _open(protocol, url, self._limits)
            return self._opened[protocol]


def _open(protocol: str, url: str, limits: ReadLimits) -> Any:
    try:
        if protocol == "http":
            from windows.reading.ranged_http import RangedHTTP

            return RangedHTTP(limits)
        import fsspec

        return fsspec.filesystem(protocol)
    except ImportError as error:
        raise ConfigError(
            f"files of {protocol}:// need a package that is not installed",
            where=url,
            got=" ".join(str(error).split())[:120],
            do="install it, or copy the files here",
        ) from error
    except Exception as error:
        raise ConfigError(
            "there is no way to this address",
            where=url,
            got=" ".join(str(error).split())[:120],
            do="use a path, or a URL of http, https, s3, gs or hf",
        ) from error


def _protocol(url: str) -> str:
    """Return a URL's protocol; ``https`` counts as ``http``."""
    protocol = url.partition("://")[0].lower()
    return "http" if protocol == "https" else protocol
