"""Where a file lies: a path on a local disk, or the address of one on a server."""

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from windows.errors import ConfigError

Place = Path | str
"""A Path on a local disk; a str with its scheme, such as ``https://…``, anywhere else."""


def place(given: Path | str) -> Place:
    """Tell a path from an address; ``file://`` is a path.

    Raises
    ------
    ConfigError
        It has a scheme and cannot be an address.
    """
    if isinstance(given, Path) or "://" not in given:
        return Path(given)
    try:
        scheme, host, path, _, _ = urlsplit(given)
    except ValueError:
        scheme = host = path = ""
    if scheme == "file" and host in ("", "localhost"):
        return Path(unquote(path))
    if not scheme or not (host or path):
        raise ConfigError(
            "not the address of a file", where="files", got=repr(given), do="give a path or a URL"
        )
    return given


def file_name(where: Place) -> str:
    """Return the last part of a path or address, without what follows a question mark."""
    return where.name if isinstance(where, Path) else PurePosixPath(urlsplit(where).path).name
