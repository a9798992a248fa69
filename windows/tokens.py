"""Token files, read one instance at a time, and the documents inside an instance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import eq, le
from pathlib import Path

import numpy as np
import numpy.typing as npt

from windows.errors import ConfigError, DataError
from windows.order import TOKEN_DTYPES, DataOrder
from windows.reading.cache import RangeCache
from windows.reading.fetch import Fetcher
from windows.reading.limits import ReadCost, ReadLimits
from windows.reading.local import first_bytes, local_size, read_local
from windows.reading.pieces import Piece, Pieces
from windows.reading.places import Place, file_name, place
from windows.reading.sizes import remote_sizes

# How numpy.save begins a file, in whichever version of its format.
_NUMPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class Span:
    """A document, or the part of one, inside an instance.

    Attributes
    ----------
    start, end
        Token positions, half-open; the EOS that ends a document belongs to it.
    head_cut
        The document may have begun before `start`.
    tail_cut
        The document goes on after `end`: its EOS is not in the span.
    """

    start: int
    end: int
    head_cut: bool
    tail_cut: bool


def documents(
    tokens: npt.NDArray[np.uint32], eos_id: int, *, starts_document: bool = False
) -> list[Span]:
    """Split an instance into its documents, by EOS.

    Parameters
    ----------
    tokens
        Token ids, ``[L]``.
    eos_id
        The id that ends a document.
    starts_document
        Whether a document is known to begin at position 0. The tokens alone cannot tell, so the
        first span counts as `head_cut` unless the caller knows better.

    Returns
    -------
    list of Span
        In order, covering ``[0, L)`` without gaps; none for no tokens.
    """
    ends = (np.flatnonzero(tokens == eos_id) + 1).tolist()
    tail_cut = not ends or ends[-1] != len(tokens)
    if tail_cut and len(tokens):
        ends.append(len(tokens))
    starts = [0, *ends[:-1]]
    return [
        Span(start, end, start == 0 and not starts_document, tail_cut and end == ends[-1])
        for start, end in zip(starts, ends, strict=False)
    ]


class TokenFiles:
    """A run's token files, on local disks or on servers.

    Parameters
    ----------
    paths
        The files in the run's order: paths, or URLs of any filesystem that fsspec knows.
    sequence_length
        Tokens of one instance.
    token_bytes
        Bytes of one token id: 1, 2 or 4.
    expected_bytes
        What the run's manifest says of every file's size, where there is one; else servers are
        asked, with one request a file.
    joined
        The files are consecutive parts of one stream, cut anywhere: an instance may begin in one
        and end in the next.
    vocab_size
        Ids from here on are refused where they are read.
    heads
        The order reads the head of each file only, as a source mixture does; then it may know of
        fewer bytes than there are.
    cache
        Keeps what is fetched from servers; None keeps nothing.
    limits
        How much may be fetched, and how.

    Attributes
    ----------
    places : tuple of Path or str
        Every file: a path, or a URL.
    sizes : tuple of int
        Bytes of every file.

    Raises
    ------
    DataError
        There is no file, one is missing, cut inside a token id, not of its expected size, or begins
        with numpy's header.
    ConfigError
        `token_bytes` is not 1, 2 or 4, or there is not one expected size for each file.
    """

    def __init__(  # noqa: PLR0913
        self,
        paths: Sequence[Path | str],
        *,
        sequence_length: int,
        token_bytes: int = 4,
        expected_bytes: Sequence[int] | None = None,
        joined: bool = False,
        heads: bool = False,
        vocab_size: int | None = None,
        cache: RangeCache | None = None,
        limits: ReadLimits | None = None,
    ) -> None:
        _check_arguments(paths, token_bytes, expected_bytes)
        self.places = tuple(place(each) for each in paths)
        self.sequence_length = sequence_length
        self.token_bytes = token_bytes
        self.joined = joined
        self.heads = heads
        self.vocab_size = vocab_size
        limits = limits or ReadLimits()
        for each in self.places:
            if isinstance(each, Path):
                _refuse_header(each, first_bytes(each, len(_NUMPY_MAGIC)))
        self.sizes = _sizes(self.places, expected_bytes, limits)
        _check_whole_ids(self.places, self.sizes, token_bytes, joined)
        self._fetcher = Fetcher(self.places, self.sizes, cache, limits)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files as paths.

        Raises
        ------
        DataError
            One of them is not on a local disk.
        """
        for each in self.places:
            if isinstance(each, str):
                raise DataError(
                    "this needs the token files on a local disk",
                    where=each,
                    do="copy the run's files here, and name the copies",
                )
        return tuple(map(Path, self.places))

    def instances(
        self,
        order: DataOrder,
        ids: npt.ArrayLike,
        *,
        advance: Callable[[int], object] = lambda n: None,
    ) -> npt.NDArray[np.uint32]:
        """Read instances.

        Each is one positioned read of its own bytes, or one ranged request for them; an instance
        that stands in `ids` more than once is read once.

        Parameters
        ----------
        order
            The run's order, over files of exactly these sizes.
        ids
            Instance ids, ``[n]``; repeats are allowed.
        advance
            Called with a number of instances that were read; `n` in all.

        Returns
        -------
        uint32[n, L]
            Their tokens, in the order of `ids`.

        Raises
        ------
        DataError
            The files are not those the order was built from, one ended early or cannot be fetched,
            begins with numpy's header, or holds an id that is not in the vocabulary.
        ConfigError
            An id is not in the run, or more would be fetched than the limits allow; then nothing
            was.
        OSError
            The cache cannot be written.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        distinct, first, back = np.unique(wanted, return_index=True, return_inverse=True)
        pieces = self._pieces(order, distinct, first)
        stored = np.empty((len(wanted), self.sequence_length), dtype=f"<u{self.token_bytes}")
        self._read(pieces, stored.view(np.uint8), advance)
        repeats = np.flatnonzero(first[back] != np.arange(len(wanted)))
        stored[repeats] = stored[first[back[repeats]]]
        advance(len(repeats))
        self._check_vocabulary(order, wanted, stored)
        return stored.astype(np.uint32, copy=False)

    def cost(self, order: DataOrder, ids: npt.ArrayLike) -> ReadCost:
        """Return what `instances` would ask of servers; nothing is asked.

        Raises
        ------
        DataError
            The files are not those the order was built from.
        ConfigError
            An id is not in the run.
        """
        distinct, first = np.unique(np.asarray(ids, dtype=np.int64), return_index=True)
        pieces = self._pieces(order, distinct, first)
        return self._fetcher.cost(pieces.take(self._remote[pieces.files]))

    def _pieces(
        self, order: DataOrder, ids: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> Pieces:
        self._check_order(order)
        files, offsets = order.locate(ids)
        return Pieces.of_instances(
            rows, files, offsets, length=order.instance_bytes, file_bytes=self.sizes
        )

    @property
    def _remote(self) -> npt.NDArray[np.bool_]:
        return np.array([isinstance(each, str) for each in self.places])

    def _read(
        self, pieces: Pieces, into: npt.NDArray[np.uint8], advance: Callable[[int], object]
    ) -> None:
        def done(piece: Piece) -> None:
            end = piece.start + piece.length
            if piece.offset == 0:
                head = into[piece.row, piece.start : end][: len(_NUMPY_MAGIC)]
                _refuse_header(self.places[piece.file], head.tobytes())
            # Of an instance that lies in several files, the last piece counts.
            if end == into.shape[1]:
                advance(1)

        remote = self._remote[pieces.files]
        if not remote.all():
            read_local(self.places, pieces.take(~remote), into, done)
        if remote.any():
            self._fetcher.read(pieces.take(remote), into, done)

    def _check_order(self, order: DataOrder) -> None:
        ours = (len(self.sizes), self.sequence_length, self.token_bytes, self.joined)
        theirs = (len(order.file_bytes), order.sequence_length, order.token_bytes, order.joined)
        fits = le if self.heads else eq
        if ours != theirs or not all(map(fits, order.file_bytes, self.sizes)):
            raise DataError(
                "the token files are not those of this data order",
                where=str(self.places[0]).rpartition("/")[0],
                got=f"{len(self.sizes)} files of {sum(self.sizes)} bytes where the order has"
                f" {len(order.file_bytes)} of {sum(order.file_bytes)}, another sequence length, or"
                " files joined where they should not be",
                do="rebuild the order from these files, or restore the run's own",
            )

    def _check_vocabulary(
        self,
        order: DataOrder,
        ids: npt.NDArray[np.int64],
        stored: npt.NDArray[np.unsignedinteger],
    ) -> None:
        if self.vocab_size is None or not stored.size or stored.max() < self.vocab_size:
            return
        row, position = np.argwhere(stored >= self.vocab_size)[0].tolist()
        files, offsets = order.locate(ids[row : row + 1])
        file, offset = int(files[0]), int(offsets[0]) + position * self.token_bytes
        while offset >= self.sizes[file]:
            offset -= self.sizes[file]
            file += 1
        raise DataError(
            f"a token id that is not in the vocabulary of {self.vocab_size}",
            where=f"{self.places[file]}, byte {offset}",
            got=str(int(stored[row, position])),
            do=f"correct token_bytes, which is {self.token_bytes}, or the run's vocab_size; if both"
            " are right, restore the file",
        )


def _check_arguments(
    paths: Sequence[Path | str], token_bytes: int, expected_bytes: Sequence[int] | None
) -> None:
    if not len(paths):
        raise DataError("the run has no token files", where="files", do="list at least one")
    if token_bytes not in TOKEN_DTYPES:
        raise ConfigError(
            "not a size of a token id",
            where="token_bytes",
            got=str(token_bytes),
            do="use 1, 2 or 4",
        )
    if expected_bytes is not None and len(expected_bytes) != len(paths):
        raise ConfigError(
            f"{len(paths)} files need as many sizes",
            where="files",
            got=str(len(expected_bytes)),
        )


def _sizes(
    places: Sequence[Place], expected: Sequence[int] | None, limits: ReadLimits
) -> tuple[int, ...]:
    """Look up the sizes of local files, which have to be as expected; trust those of others.

    HTTP servers state a file's size in every answer, so a wrong one is found where it matters.
    """
    if expected is None:
        return remote_sizes(places, limits=limits)
    return tuple(
        _expected_size(each, int(size)) if isinstance(each, Path) else int(size)
        for each, size in zip(places, expected, strict=True)
    )


def _expected_size(path: Path, expected: int) -> int:
    size = local_size(path)
    if size != expected:
        raise DataError(
            "token file is cut short"
            if size < expected
            else "token file is longer than it should be",
            where=str(path),
            got=f"{size} bytes where the manifest says {expected}",
            do="restore the file, or correct the manifest",
        )
    return size


def _check_whole_ids(
    places: Sequence[Place], sizes: Sequence[int], token_bytes: int, joined: bool
) -> None:
    # The parts of one stream may be cut inside an id, the stream may not.
    whole = [(places[-1], sum(sizes))] if joined else zip(places, sizes, strict=True)
    for each, size in whole:
        if size % token_bytes:
            raise DataError(
                f"token file is cut short: not a whole number of {token_bytes}-byte ids",
                where=str(each),
                got=f"{size} bytes{' in all files' if joined else ''}",
                do="restore the file, or correct token_bytes",
            )


def _refuse_header(where: Place, begin: bytes) -> None:
    if begin.startswith(_NUMPY_MAGIC) and file_name(where).endswith(".npy"):
        raise DataError(
            "token file begins with a header, as numpy.save writes it",
            where=str(where),
            got="the first bytes of numpy's format where raw token ids were expected",
            do="write the ids with ndarray.tofile: OLMo-core's .npy files are headerless, and the"
            " 128 bytes that numpy.save puts first would be read as token ids",
        )
