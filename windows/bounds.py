"""Bounds of the documents in a token file: the ``.csv.gz`` which dolma and OLMo-core share."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from windows.errors import DataError
from windows.files import write_atomic


@dataclass(frozen=True)
class Bound:
    """One line of a bounds file: a document, or the part of one, in a token file.

    Attributes
    ----------
    start, end
        Token positions in the file, half-open.
    id
        The document's name.
    source
        Where it came from.
    file, instance
        The file and the instance of the run it was read from.
    """

    start: int
    end: int
    id: str
    source: str
    file: int
    instance: int


# Many times faster than `dataclasses.astuple`, which copies every value.
_COLUMNS = attrgetter(*(field.name for field in fields(Bound)))


def write_bounds(path: Path, bounds: Iterable[Bound]) -> None:
    """Write the bounds of a token file's documents, atomically and always to the same bytes.

    The file is gzip over lines ``start,end,id,source,file,instance`` without a header.

    Raises
    ------
    DataError
        A text field has a line break, which readers of this format do not expect.
    """
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    for bound in bounds:
        if len(f"{bound.id}{bound.source}".splitlines()) > 1:
            raise DataError("a name with a line break", where=str(path), got=repr(bound.id))
        writer.writerow(_COLUMNS(bound))
    packed = io.BytesIO()
    # A time or a file name in the gzip header would make equal contents unequal.
    with gzip.GzipFile("", "wb", compresslevel=6, fileobj=packed, mtime=0) as file:
        file.write(lines.getvalue().encode("utf-8"))
    write_atomic(path, packed.getvalue())


def read_bounds(path: Path) -> Iterator[Bound]:
    """Yield the lines of a bounds file.

    Raises
    ------
    DataError
        The file is absent, damaged, or a line has not the six columns.
    """
    try:
        if not path.stat().st_size:
            # gzip itself takes a file of no bytes for one without lines.
            raise EOFError("an empty file")
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for start, end, name, source, number, instance in csv.reader(file):
                yield Bound(int(start), int(end), name, source, int(number), int(instance))
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise DataError(
            "bounds cannot be read", where=str(path), got=str(error), do="write them again"
        ) from error
