"""The studies and runs that come with the package."""

from importlib import resources
from pathlib import Path


def shipped(kind: str) -> dict[str, Path]:
    """List the files that come with the package, by name.

    Parameters
    ----------
    kind
        ``studies`` or ``runs``.
    """
    folder = resources.files("configs").joinpath(kind)
    paths = [Path(str(entry)) for entry in folder.iterdir()] if folder.is_dir() else []
    return {path.stem: path for path in sorted(paths) if path.suffix == ".yaml"}
