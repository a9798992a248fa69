"""Sizes of files on servers, by HEAD: all that a run's data order needs to know of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from windows.errors import DataError
from windows.files import write_atomic
from windows.reading.faults import Fault
from windows.reading.limits import ReadLimits
from windows.reading.local import local_size
from windows.reading.places import Place, place
from windows.reading.remote import Remote
from windows.reading.threads import in_threads

# Answers that a killed process may lose.
_SAVE_EVERY = 64


def remote_sizes(
    files: Sequence[Path | str],
    *,
    limits: ReadLimits | None = None,
    cache: Path | None = None,
    advance: Callable[[int], object] = lambda n: None,
) -> tuple[int, ...]:
    """Ask for the sizes of files.

    Parameters
    ----------
    files
        URLs, each asked for once; paths are looked up.
    limits
        Connections, attempts, timeout.
    cache
        A JSON file of the answers, so that no question is put twice; what was answered before a
        failure is in it. None keeps none.
    advance
        Called with a number of files whose sizes are known.

    Returns
    -------
    tuple of int
        Bytes of each, in the order of `files`.

    Raises
    ------
    DataError
        Files are not there, all of which are counted and the first few named; or a server refused
        to tell, or the cache cannot be read.
    ConfigError
        There is no way to an address.
    """
    places = [place(each) for each in files]
    answers = _Answers(cache)
    urls = [each for each in dict.fromkeys(places) if isinstance(each, str)]
    asked = [url for url in urls if url not in answers.sizes]
    advance(len(places) - len(asked))
    if asked:
        answers.ask(asked, limits or ReadLimits(), advance)
    return tuple(_known(each, answers) for each in places)


def unanswered(files: Sequence[Path | str], cache: Path) -> int:
    """Return how many files `remote_sizes` would have to ask for; nobody is asked.

    Raises
    ------
    DataError
        The cache cannot be read.
    """
    sizes = _Answers(cache).sizes
    urls = {each for each in map(place, files) if isinstance(each, str)}
    return len(urls - set(sizes))


def _known(where: Place, answers: "_Answers") -> int:
    return local_size(where) if isinstance(where, Path) else answers.sizes[where]


class _Answers:
    """Sizes by URL, and the file that keeps them."""

    def __init__(self, path: Path | None) -> None:
        self.sizes = _read(path) if path is not None and path.exists() else {}
        self._path = path
        self._unsaved = 0
        self._missing: list[str] = []

    def ask(self, urls: list[str], limits: ReadLimits, advance: Callable[[int], object]) -> None:
        with Remote(limits) as remote:

            def size(url: str) -> tuple[str, int | None]:
                try:
                    return url, remote.size(url)
                except Fault as fault:
                    if fault.missing:
                        return url, None
                    raise DataError(
                        "the size of this file cannot be had",
                        where=url,
                        got=fault.what,
                        do=fault.do,
                    ) from fault

            def take(answer: tuple[str, int | None]) -> None:
                self._take(*answer)
                advance(1)

            threads = min(limits.connections, len(urls))
            try:
                in_threads(size, urls, threads, done=take, halt=remote.halt)
            finally:
                self._save()
        self._refuse_missing(urls)

    def _take(self, url: str, size: int | None) -> None:
        if size is None:
            self._missing.append(url)
            return
        self.sizes[url] = size
        self._unsaved += 1
        if self._unsaved >= _SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        if self._path is None or not self._unsaved:
            return
        # Another process may have asked for other files meanwhile.
        there = _read(self._path) if self._path.exists() else {}
        write_atomic(self._path, json.dumps(there | self.sizes, indent=0, sort_keys=True) + "\n")
        self._unsaved = 0

    def _refuse_missing(self, urls: list[str]) -> None:
        if not self._missing:
            return
        first = sorted(self._missing, key=urls.index)[:3]
        more = f" and {len(self._missing) - 3} more" if len(self._missing) > 3 else ""
        raise DataError(
            f"{len(self._missing)} of {len(urls)} that were asked for are not there",
            where="files",
            got=f"no {', '.join(first)}{more}",
            do="check the addresses in the run's list of files: one missing changes the order",
        )


def _read(path: Path) -> dict[str, int]:
    try:
        sizes = json.loads(path.read_bytes())
        if isinstance(sizes, dict) and all(type(size) is int for size in sizes.values()):
            return sizes
        got = "no object of sizes by address"
    except (OSError, ValueError) as error:
        got = " ".join(str(error).split())[:120]
    raise DataError(
        "what servers said of file sizes cannot be read",
        where=str(path),
        got=got,
        do="remove the file: the servers are asked again",
    )
