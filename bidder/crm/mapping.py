"""What do the columns of a company's files mean? The mapping that `bidder crm import` is given.

Every file matches one entry. A row may name a person by any number of columns, which links them,
and may report one thing that the person did: always the same (`event`), or what a column says
(`events`). See docs/crm.md.
"""

from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bidder.crm.activity import NAMES, Kind
from bidder.crm.pseudonyms import KINDS
from bidder.yamlfiles import Document, InvalidFile, Model, Problem, nearest, read

Column = Annotated[str, Field(min_length=1)]


def _kind(name: object) -> Kind:
    if not isinstance(name, str) or name not in NAMES:
        close = nearest(str(name), NAMES)
        raise ValueError(f"{name!r} is not something people do" + (f"; {close}" if close else ""))
    return NAMES[name]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{name!r} is not a time zone") from None
    return name


def _source(name: str) -> str:
    if not name or ":" in name or not name.isprintable():
        raise ValueError(f"{name!r} is not a source of identifiers")
    return name


KindName = Annotated[Kind, BeforeValidator(_kind)]
Source = Annotated[str, AfterValidator(_source)]


class Columns(Model):
    """Which column holds what; in JSON a dot goes into an object."""

    ids: dict[Source, Column] = Field(min_length=1)
    """Source -> column. `crm`, `email`, `email_sha256`, `phone` and `phone_sha256` are hashed under
    our key; any other source (`buyeruid.<exchange>`, `ifa`, that of an eid) is stored as it is."""
    match_method: Column | None = None
    """A column with the `mm` of OpenRTB: rows where it says 3 to 5 (bridged) link nothing."""
    time: Column | None = None
    event: Column | None = None
    value: Column | None = None
    """In the advertiser's currency."""
    order: Column | None = None
    products: Column | None = None
    category: Column | None = None
    opted_out: Column | None = None
    """Rows where it says yes are objections to profiling."""
    consent: Column | None = None
    consent_time: Column | None = None


class Source_(Model):  # noqa: N801  # `Source` is the name of a person's identifiers
    """One kind of file."""

    match: str
    """Of the file's name: `orders-*.csv`."""
    format: Literal["csv", "jsonl", "parquet"] | None = None
    """Left out: by the ending of the name."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    columns: Columns
    event: KindName | None = None
    """What every row reports; with neither this nor `events`, rows only say who is who."""
    events: dict[str, KindName] = Field(default_factory=dict)
    """What column `event` says -> what it means; rows that say something else are passed over."""
    time_format: str | None = None
    """As strptime has it: `%d/%m/%Y %H:%M`. Left out: ISO 8601, or seconds since the epoch."""
    consent_source: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "Source_":
        columns = self.columns
        if bool(self.events) != (columns.event is not None):
            raise ValueError("`events` and the column `event` go together")
        if self.event is not None and self.events:
            raise ValueError("give `event` or `events`, not both")
        if (self.event is not None or self.events) and columns.time is None:
            raise ValueError("events need a column `time`")
        return self


class Mapping(Model):
    """`MAPPING.yaml`."""

    advertiser: Annotated[str, Field(min_length=1)]
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "FR"
    """Of phone numbers without a country code."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Of times without one."""
    files: list[Source_]

    def source_of(self, path: Path) -> Source_ | None:
        """The entry that a file belongs to: the first whose pattern its name matches."""
        return next((each for each in self.files if fnmatch(path.name, each.match)), None)


HASHED = frozenset(KINDS) - {"cookie"}
FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl",
           ".json": "jsonl", ".parquet": "parquet"}  # fmt: skip


def load(path: Path) -> Mapping:
    """The mapping in a file. Raises `InvalidFile`."""
    document: Document[Mapping] = read(path, Mapping)
    problems: list[Problem] = []
    for place, source in enumerate(document.value.files):
        if "cookie" in source.columns.ids:
            keys = ("files", place, "columns", "ids", "cookie")
            problems.append(document.problem("error", keys, "cookies are ours alone"))
    if problems:
        raise InvalidFile(problems)
    return document.value


def format_of(path: Path, source: Source_) -> str:
    """csv, jsonl or parquet; empty if the name does not say and the mapping neither."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return source.format or (FORMATS.get(suffixes[-1], "") if suffixes else "")
