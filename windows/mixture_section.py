"""A source mixture as a run file states it: OLMo-core's, with the sizes of its files."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from windows.run import DataFile, RunConfig
from windows.settings import Section
from windows.source_mixture import MixtureSource, select

Ratio = Annotated[float, Field(ge=0)]


class MixtureSourceSection(Section):
    """One source: the fields of OLMo-core's ``SourceMixtureConfig``, patterns in paths expanded."""

    source_name: str = Field(min_length=1)
    target_ratio: Ratio
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    max_repetition_ratio: Ratio = 1.0
    max_source_fraction: Ratio = 1.0


class SourceMixtureSection(Section):
    """The mixture: ``SourceMixtureDatasetConfig``.

    Attributes
    ----------
    sources
        In the mixture's order.
    requested_tokens
        Its size.
    batch_tokens
        Tokens of a batch as the mixture was told; by default the run's first batch size.
    sizes
        A manifest of the files' sizes, relative to the run file; by default they are looked at, or
        whoever serves the files is asked.
    keep_empty
        Whether files of which nothing is read count in the fingerprint, as before OLMo-core 3.0.
    """

    sources: Annotated[tuple[MixtureSourceSection, ...], Field(min_length=1)]
    requested_tokens: int = Field(gt=0)
    batch_tokens: int | None = Field(default=None, gt=0)
    sizes: str | None = None
    keep_empty: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every token file once, in the mixture's order."""
        return tuple(dict.fromkeys(path for source in self.sources for path in source.paths))

    def heads(self, run: RunConfig, file_bytes: Mapping[str, int]) -> tuple[DataFile, ...]:
        """Return what the mixture reads of each file, as a run's files.

        Raises
        ------
        ConfigError
            As `windows.source_mixture.select`.
        """
        selected = select(
            [
                MixtureSource(
                    source.source_name,
                    source.target_ratio,
                    source.paths,
                    source.max_repetition_ratio,
                    source.max_source_fraction,
                )
                for source in self.sources
            ],
            file_bytes,
            requested_tokens=self.requested_tokens,
            batch_tokens=self.batch_tokens or run.step_map[0].batch_tokens,
            sequence_length=run.sequence_length,
            token_bytes=run.token_bytes,
            keep_empty=self.keep_empty,
        )
        return tuple(
            DataFile(source=file.source, path=file.path, bytes=file.bytes) for file in selected
        )
