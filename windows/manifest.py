"""The manifest of a folder of token shards: what the folder holds, and that it is finished."""

import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from windows.errors import DataError
from windows.files import write_atomic
from windows.identity import hash_file
from windows.run import DataFile

MANIFEST = "manifest.json"


class ManifestShard(BaseModel):
    """One token file of a manifest.

    Attributes
    ----------
    path, bounds
        The token file and its bounds, relative to the folder of the manifest; a token file's own
        folder, if it has one, names its source.
    tokens
        Token ids in the file.
    sha256, bounds_sha256
        Of the two files' bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    tokens: Annotated[int, Field(ge=0)]
    sha256: str
    bounds: str
    bounds_sha256: str

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for name in (self.path, self.bounds):
            path = PurePosixPath(name)
            if not path.name or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{name!r} is not a file inside the folder")
        return self


class Manifest(BaseModel):
    """What a folder of token shards holds.

    Attributes
    ----------
    schema_version
        Version of the format; ``schema`` in the file.
    dtype
        Type of a token id.
    vocab_size, eos_id
        Of the tokenizer; every id is below `vocab_size`, and EOS ends a document.
    sequence_length
        Tokens of an instance.
    unit
        ``instance``: every row has `sequence_length` tokens; ``document``: rows are documents laid
        end to end.
    shards
        The token files, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dtype: Literal["uint8", "uint16", "uint32"] = "uint32"
    vocab_size: Annotated[int, Field(ge=1)]
    eos_id: Annotated[int, Field(ge=0)]
    sequence_length: Annotated[int, Field(ge=1)]
    unit: Literal["instance", "document"]
    shards: tuple[ManifestShard, ...]

    @property
    def token_bytes(self) -> int:
        """Bytes of one token id."""
        return np.dtype(self.dtype).itemsize

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.vocab_size > 256**self.token_bytes:
            raise ValueError(f"vocab_size {self.vocab_size} is too large for {self.dtype}")
        if self.eos_id >= self.vocab_size:
            raise ValueError(f"eos_id {self.eos_id} is not below vocab_size {self.vocab_size}")
        for shard in self.shards:
            if self.unit == "instance" and shard.tokens % self.sequence_length:
                raise ValueError(f"{shard.path} is no whole number of instances")
        return self


def describe_shard(folder: Path, path: str, bounds: str, *, token_bytes: int = 4) -> ManifestShard:
    """Hash a token file and its bounds for a manifest; both paths are relative to `folder`."""
    return ManifestShard(
        path=path,
        tokens=(folder / path).stat().st_size // token_bytes,
        sha256=hash_file(folder / path),
        bounds=bounds,
        bounds_sha256=hash_file(folder / bounds),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, which says that the folder is finished."""
    text = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=2)
    write_atomic(folder / MANIFEST, text + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest and check that the files it names are there, with their full sizes.

    Contents are not hashed here: the artefact store's ``verify`` does that.

    Raises
    ------
    DataError
        There is no manifest, it does not have the expected form, or a file is absent or cut short.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            "no manifest of token shards",
            where=str(path),
            got=error.strerror or "",
            do="export again",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(
            "not a manifest of token shards",
            where=".".join([str(path), *map(str, first["loc"])]),
            got=first["msg"],
            do="export again",
        ) from error
    for shard in manifest.shards:
        _check_size(folder / shard.path, shard.tokens * manifest.token_bytes)
        _check_size(folder / shard.bounds, None)
    return manifest


def data_files(folder: Path) -> tuple[DataFile, ...]:
    """List the token files of a folder as a run's data, in the manifest's order.

    The source of a file is the folder it lies in, below `folder`; for one that lies in `folder`
    itself it is the file's own name without the suffix.

    Raises
    ------
    DataError
        As `read_manifest`.
    """
    manifest = read_manifest(folder)
    return tuple(
        DataFile(
            source=_source(PurePosixPath(shard.path)),
            path=str(folder / shard.path),
            bytes=shard.tokens * manifest.token_bytes,
        )
        for shard in manifest.shards
    )


def _source(path: PurePosixPath) -> str:
    return str(path.parent) if len(path.parts) > 1 else path.stem


def _check_size(path: Path, size: int | None) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DataError(
            "a file of the manifest cannot be read",
            where=str(path),
            got=error.strerror or "",
            do="export again",
        ) from error
    if size is not None and found != size:
        raise DataError(
            "token file is cut short" if found < size else "token file is longer than it should be",
            where=str(path),
            got=f"{found} bytes where the manifest says {size}",
            do="restore the file, or export again",
        )
