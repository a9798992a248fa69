"""The token files of a run: which they are, how large, where their documents' bounds lie."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from curate.run_file import GivenRun, RunFile
from windows.documents import SUFFIX, bounds_beside
from windows.errors import ConfigError, DataError
from windows.manifest import data_files, read_manifest
from windows.mixes import MixSection, SizeManifest, installed_mix, mix_files, read_sizes, sized
from windows.mixture_section import SourceMixtureSection
from windows.order_cache import cache_folder
from windows.progress import Reporter
from windows.reading.cache import RangeCache
from windows.reading.limits import ReadLimits
from windows.reading.sizes import remote_sizes, unanswered
from windows.reading.whole import fetched
from windows.run import DataFile
from windows.tokens import TokenFiles

TOKENIZER = "tokenizer.json"
SIZES = "sizes.json"


@dataclass(frozen=True)
class RunData:
    """A run's token files, in its order.

    Attributes
    ----------
    run
        The run's file.
    beside
        The folder that places in it are relative to.
    files
        The token files, sizes included.
    bounds
        Where each file's document bounds lie; None where it has none at hand.
    file_bytes
        Sizes of the files as they lie there; larger than those in `files` where only heads are
        read.
    note
        Where the sizes are from, if they were not looked at.
    limits
        How much may be fetched, and how.
    """

    run: RunFile
    beside: Path
    files: tuple[DataFile, ...]
    bounds: tuple[Path | None, ...]
    file_bytes: tuple[int, ...]
    note: str = ""
    limits: ReadLimits = field(default_factory=ReadLimits)

    @cached_property
    def tokens(self) -> TokenFiles:
        """The files, opened for reading; local ones are checked for their sizes."""
        return TokenFiles(
            [file.path for file in self.files],
            sequence_length=self.run.sequence_length,
            token_bytes=self.run.token_bytes,
            expected_bytes=self.file_bytes,
            joined=self.run.loader == "preshuffled",
            heads=self.run.source_mixture is not None,
            vocab_size=self.run.tokenizer.vocab_size,
            cache=RangeCache(cache_folder() / "instances"),
            limits=self.limits,
        )

    def fetched_bounds(self, file: int) -> Path:
        """Fetch the bounds of a remote file.

        Raises
        ------
        ConfigError
            The file is local and has none, or they cannot be fetched.
        """
        address = self.files[file].path
        got = "no .csv.gz beside it"
        if "://" in address:
            try:
                return fetched(address.rpartition(".")[0] + SUFFIX, cache_folder() / "bounds")
            except DataError as error:
                got = f"{error.what}: {error.got}"
        raise ConfigError(
            "documents of this file cannot be looked up: it has no bounds",
            where=f"--document, in {address}",
            got=got,
            do="ask by --tokens A:B or by --instance, or put its .csv.gz beside it",
        )

    def text(self, ids: npt.NDArray[np.uint32]) -> str:
        """Decode token ids with the run's tokenizer.

        Raises
        ------
        DataError
            There is none.
        """
        return self._tokenizer.decode(ids.tolist(), skip_special_tokens=False)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        named = self.run.text_tokenizer
        places = [] if "://" in self.files[0].path else [*Path(self.files[0].path).parents[:2]]
        if named is not None:
            places.append(self.beside / named)
        for folder in places:
            if (folder / TOKENIZER).is_file():
                return Tokenizer.from_file(str(folder / TOKENIZER))
        if named is not None and not named.startswith((".", "/")):
            return Tokenizer.from_file(_from_hub(named))
        raise DataError(
            f"documents cannot be shown as text: there is no {TOKENIZER}",
            where=str(places[0]) if places else self.files[0].path,
            do=f"put the run's {TOKENIZER} beside the token files, name text_tokenizer in the run"
            " file (a folder such as ./tokenizer, or a repository), or leave out --sample",
        )


def made_data(run: RunFile, folder: Path) -> RunData:
    """Describe the token files in a folder with a manifest."""
    bounds = tuple(folder / shard.bounds for shard in read_manifest(folder).shards)
    files = data_files(folder)
    return RunData(run, folder, files, bounds, tuple(file.bytes for file in files))


def given_data(given: GivenRun, reporter: Reporter, limits: ReadLimits | None = None) -> RunData:
    """Find the token files of a given run, and their sizes.

    Files that are listed without being here have the sizes that the list says. Those of a mix are
    in its manifest of sizes; without one, whoever serves them is asked, once.

    Raises
    ------
    ConfigError, DataError
        The manifest or the mix cannot be read, or sizes cannot be had.
    """
    run, beside = given.run, given.path.parent
    if given.data_folder is not None:
        return made_data(run, given.data_folder)
    whole, note = None, ""
    if run.mix is not None:
        files, note = _mixed(run.mix, beside, reporter)
    elif run.source_mixture is not None:
        files, whole, note = _heads(run, run.source_mixture, beside, reporter)
    else:
        files = tuple(_at(file, beside) for file in run.files)
    return RunData(
        run,
        beside,
        files,
        tuple(bounds_beside(file.path) for file in files),
        whole or tuple(file.bytes for file in files),
        note,
        limits or ReadLimits(),
    )


def sizes_to_ask_for(given: GivenRun) -> int:
    """Return how many sizes `given_data` would have to ask a server for.

    The list of the mix is looked at, and fetched where it is only known by its URL.
    """
    run, beside = given.run, given.path.parent
    if run.mix is not None and run.mix.sizes is None:
        placed = run.mix.model_copy(update={"base": _address(run.mix.base, beside)})
        addresses = [file.address for file in mix_files(placed, _mix_text(run.mix, beside))]
    elif run.source_mixture is not None and run.source_mixture.sizes is None:
        addresses = [_address(path, beside) for path in run.source_mixture.paths]
    else:
        return 0
    return unanswered(addresses, cache_folder() / SIZES)


def _at(file: DataFile, beside: Path) -> DataFile:
    return file.model_copy(update={"path": _address(file.path, beside)})


def _address(path: str, beside: Path) -> str:
    return path if "://" in path else str(beside / path)


def _heads(
    run: RunFile, mixture: SourceMixtureSection, beside: Path, reporter: Reporter
) -> tuple[tuple[DataFile, ...], tuple[int, ...], str]:
    """Return the heads that a source mixture reads, the sizes of the whole files, and a note."""
    note = ""
    if mixture.sizes is not None:
        manifest = read_sizes(beside / mixture.sizes)
        sizes, note = dict(manifest.bytes), _from_manifest(mixture.sizes, manifest)
    else:
        found = _asked([_address(path, beside) for path in mixture.paths], reporter)
        sizes = dict(zip(mixture.paths, found, strict=True))
    heads = mixture.heads(run, sizes)
    whole = tuple(sizes[head.path] for head in heads)
    return tuple(_at(head, beside) for head in heads), whole, note


def _mixed(mix: MixSection, beside: Path, reporter: Reporter) -> tuple[tuple[DataFile, ...], str]:
    placed = mix.model_copy(update={"base": _address(mix.base, beside)})
    files = mix_files(placed, _mix_text(mix, beside))
    if mix.sizes is not None:
        path = beside / mix.sizes
        manifest = read_sizes(path)
        return sized(files, manifest, str(path)), _from_manifest(mix.sizes, manifest)
    sizes = _asked([file.address for file in files], reporter)
    pairs = zip(files, sizes, strict=True)
    found = tuple(DataFile(source=f.source, path=f.address, bytes=size) for f, size in pairs)
    return found, f"file sizes as served below {mix.base}"


def _from_manifest(name: str, manifest: SizeManifest) -> str:
    return f"file sizes from {name}" + (f": {manifest.note}" if manifest.note else "")


def _mix_text(mix: MixSection, beside: Path) -> str:
    if mix.list is None:
        text = installed_mix(mix.name)
        if text is None:
            raise ConfigError(
                f"the files of mix {mix.name} are not known here",
                where="mix.list",
                do="install modehop[olmo-core], or give the mix's own list, a file or a URL",
            )
        return text
    path = fetched(mix.list, cache_folder() / "lists") if "://" in mix.list else beside / mix.list
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "the list of the mix cannot be read",
            where=f"mix.list: {path}",
            got=error.strerror or "",
            do="give a file of lines source,path, or a URL",
        ) from error


def _asked(addresses: Sequence[str], reporter: Reporter) -> tuple[int, ...]:
    with reporter.task("asking for file sizes", len(addresses)) as advance:
        return remote_sizes(addresses, cache=cache_folder() / SIZES, advance=advance)


def _from_hub(repository: str) -> str:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return hf_hub_download(repository, TOKENIZER)
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise DataError(
            "the run's tokenizer cannot be had",
            where=f"text_tokenizer: {repository}",
            got=" ".join(str(error).split())[:120],
            do=f"go online once, or put its {TOKENIZER} beside the token files",
        ) from error
