"""The table of sources (confs/sources.yaml): what to download, from where, and where it belongs."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from desed_task.atomic_files import read_text
from desed_task.encoders.weights_file import WEIGHTS_FOLDER
from desed_task.errors import InputError
from local.cli.redaction import redact_address
from local.config import find_shipped
from local.config_schema import Data
from local.prep.layout import DATA_PARTS
from local.schema.strict import StrictModel

SOURCES_FILE = "./confs/sources.yaml"
# Downloaded, but not prepared any further.
CHECKPOINT_PART = "checkpoint"
FETCHED_PARTS = {**DATA_PARTS, CHECKPOINT_PART: "the published checkpoint"}
# Fetched only when they are asked for, into another folder.
ENCODERS_PART = "encoders"
# Names in `DataLayout`; all others in `gives` and `made` are keys of the data section.
_RECORDINGS = ("recordings_audio", "recordings_labels")
_DIGITS = {"md5": 32, "sha256": 64}


class DownloadSource(StrictModel):
    """A file, or the files of one Zenodo record that match a pattern."""

    part: str
    """Of `FETCHED_PARTS`, or `ENCODERS_PART`."""
    file: str = Field(min_length=1)
    url: str | None = Field(default=None, pattern="^https?://")
    record: PositiveInt | None = None
    """Number of the Zenodo record that lists size and checksum."""
    size: PositiveInt | None = None
    """In bytes."""
    checksum: str | None = None
    """md5:<32 hexadecimal digits> or sha256:<64>."""
    licence: str | None = None
    """In words."""
    into: str = ""
    """Folder below the base folder; weights of encoders have none, see `WEIGHTS_FOLDER`."""
    keep_from: tuple[str, ...] = ()
    """Folder names; an archive's paths start at the first of them."""
    flat: bool = False
    """Whether all files go directly into `into`."""
    gives: tuple[str, ...] = ()
    """What must exist afterwards."""
    made: tuple[str, ...] = ()
    """What is made from it; if all of it exists, nothing is downloaded."""

    @property
    def is_pattern(self) -> bool:
        """Whether `file` is a pattern for names in the record's listing."""
        return "*" in self.file

    @field_validator("part")
    @classmethod
    def _known_part(cls, part: str) -> str:
        known = (*FETCHED_PARTS, ENCODERS_PART)
        if part not in known:
            raise ValueError(f"no such part; known: {', '.join(known)}")
        return part

    @field_validator("file")
    @classmethod
    def _plain_name(cls, file: str) -> str:
        if file != PurePosixPath(file).name or "\\" in file or file.startswith("."):
            raise ValueError("is not the name of a file; give it without folders")
        return file

    @field_validator("into")
    @classmethod
    def _below_the_base(cls, into: str) -> str:
        path = PurePosixPath(into)
        if into and (path.is_absolute() or ".." in path.parts or not path.parts):
            raise ValueError("must be a folder below --basedir: no leading / and no ..")
        return into

    @field_validator("checksum")
    @classmethod
    def _known_checksum(cls, checksum: str | None) -> str | None:
        if checksum is not None and not is_checksum(checksum):
            raise ValueError("is neither md5: with 32 nor sha256: with 64 hexadecimal digits")
        return checksum

    @field_validator("gives", "made")
    @classmethod
    def _known_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [k for k in keys if k not in Data.model_fields and k not in _RECORDINGS]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a key of the data section")
        return keys

    @model_validator(mode="after")
    def _has_its_place(self) -> DownloadSource:
        if self.part != ENCODERS_PART and not self.into:
            raise ValueError(f"file {self.file}: give into, a folder below --basedir")
        unpacked = (self.into, self.keep_from, self.flat, self.gives, self.made, self.is_pattern)
        if self.part == ENCODERS_PART and any(unpacked):
            raise ValueError(
                f"file {self.file}: weights of encoders are single files in ./{WEIGHTS_FOLDER}; "
                "leave out into, keep_from, flat, gives, made and patterns"
            )
        return self

    @model_validator(mode="after")
    def _has_an_address(self) -> DownloadSource:
        if self.is_pattern and (not self.record or self.url or self.size or self.checksum):
            raise ValueError(
                f"file {self.file}: a pattern requires a record and excludes the other keys"
            )
        if not (self.url or self.record):
            raise ValueError(f"file {self.file}: give its url or its record")
        return self


class SourceTable(StrictModel):
    """All sources, and the servers to use."""

    zenodo: str = Field(default="https://zenodo.org", pattern="^https?://")
    mirror: str | None = Field(default=None, pattern="^https?://")
    sources: tuple[DownloadSource, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_row_a_name(self) -> SourceTable:
        names = [source.file for source in self.sources if not source.is_pattern]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{', '.join(twice)}: more than one row; a mirror could not tell them apart"
            )
        return self

    def redirected(self, mirror: str | None) -> SourceTable:
        """Return the table with another mirror, or unchanged for None.

        Raises:
            InputError: the mirror is not the address of a web server.
        """
        if mirror is None:
            return self
        if not mirror.startswith(("http://", "https://")):
            raise InputError(
                f"--mirror {redact_address(mirror)}: not an address; it must begin with http(s)://"
            )
        return self.model_copy(update={"mirror": mirror})


def is_checksum(text: str) -> bool:
    """Whether this is `md5:` or `sha256:` with its hexadecimal digits."""
    kind, _, digits = text.partition(":")
    return _DIGITS.get(kind) == len(digits) and not set(digits.lower()) - set("0123456789abcdef")


def load_sources(path: str | Path = SOURCES_FILE) -> SourceTable:
    """Read and check a table of sources.

    Raises:
        InputError: the file is missing or not YAML, or rows are wrong (all are named).
    """
    path = find_shipped(path, "no such table of sources", (Path(SOURCES_FILE).name,))
    try:
        tree = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    try:
        return SourceTable.model_validate(tree)
    except ValidationError as error:
        problems = [_problem(mistake["loc"], mistake["msg"]) for mistake in error.errors()]
        raise InputError.collect(problems, f"{path} cannot be used:") from None


def _problem(location: tuple[int | str, ...], message: str) -> str:
    # Users count rows from 1.
    where = ".".join(str(part + 1) if isinstance(part, int) else part for part in location)
    return f"{where or 'table'}: {message.removeprefix('Value error, ')}"
