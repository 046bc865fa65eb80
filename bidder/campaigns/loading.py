"""What do all campaign files come to? A directory of YAML into one `Catalogue`, or why not."""

import gc
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bidder import ids
from bidder.campaigns import schema
from bidder.campaigns.catalogue import Catalogue
from bidder.campaigns.compiling import Compiled, Hash, compiled
from bidder.campaigns.review import File, Keys, review
from bidder.campaigns.splits import applied
from bidder.yamlfiles import InvalidFile, Problem, parse, read_bytes

__all__ = ["json_schema", "load"]


def load(
    directory: Path,
    *,
    now: datetime,
    exchanges: Container[str] | None = None,
    segments: Container[str] | None = None,
    hash32: Hash = ids.hash32,
) -> tuple[Catalogue, list[Problem]]:
    """The catalogue of the ``*.yaml`` files in `directory`, and the warnings about them.

    Names of `exchanges` and `segments` are checked where they are given. Raises `InvalidFile` with
    all problems, warnings included, if any is an error. Flights are judged at `now`, which has a
    time zone.
    """
    with _no_collection():
        files, problems, version = _read(directory)
        for file in files:
            problems += review(file, now, exchanges, segments)
        problems += _across(files, hash32)
        problems.sort(key=lambda problem: (str(problem.file), problem.line))
        if any(problem.severity == "error" for problem in problems):
            raise InvalidFile(problems)
        return _catalogue([compiled(file.value, hash32) for file in files], version), problems


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a campaign file, from which editors complete (yaml-language-server)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema.Advertiser.model_json_schema(),
        "title": "A campaign file",
    }


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection inside: of a large load nearly all is kept, and looking through it
    again and again doubles the time (10,000 line items: 10 s with, 5 s without)."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read(directory: Path) -> tuple[list[File], list[Problem], str]:
    """The files that can be read, the problems of the others, and a hash of them all."""
    files, problems = list[File](), list[Problem]()
    digest = blake2b(digest_size=6)
    try:
        paths = sorted(
            path
            for path in directory.iterdir()
            if path.suffix in (".yaml", ".yml") and not path.name.startswith(".")
        )
    except OSError as error:
        return [], [_missing("error", directory, f"cannot be read: {error.strerror}")], ""
    if not paths:
        problems.append(_missing("warning", directory, "holds no campaign file (*.yaml)"))
    for path in paths:
        try:
            raw = read_bytes(path)
            digest.update(path.name.encode() + b"\0" + len(raw).to_bytes(8, "big") + raw)
            files.append(parse(raw, path, schema.Advertiser))
        except InvalidFile as error:
            problems += error.problems
    return files, problems, digest.hexdigest()


def _missing(severity: Any, directory: Path, message: str) -> Problem:
    return Problem(severity, directory, 1, "", message)


def _across(files: Iterable[File], hash32: Hash) -> Iterator[Problem]:
    """Advertisers written in two files, and paths whose 32-bit ids are the same."""
    owner: dict[str, File] = {}
    taken: dict[int, str] = {}
    for file in files:
        name = file.value.advertiser
        if name in owner:
            first = owner[name]
            hint = f"first in {first.path}:{first.line_of('advertiser')}"
            yield file.problem("error", ("advertiser",), f"{name!r} is taken", hint)
            continue
        owner[name] = file
        for path, keys in _paths(file.value):
            other = taken.setdefault(hash32(path), path)
            if other != path:
                message = f"the 32-bit id of {path!r} is that of {other!r}"
                yield file.problem("error", keys, message, "rename one of them")


def _paths(written: schema.Advertiser) -> Iterator[tuple[str, Keys]]:
    """Every full path of a file, with the keys of the id it ends in."""
    yield written.advertiser, ("advertiser",)
    for i, campaign in enumerate(written.campaigns):
        path = f"{written.advertiser}/{campaign.id}"
        yield path, ("campaigns", i, "id")
        for j, item in enumerate(campaign.line_items):
            below: Keys = ("campaigns", i, "line_items", j)
            yield f"{path}/{item.id}", (*below, "id")
            for k, creative in enumerate(item.creatives):
                yield f"{path}/{item.id}/{creative.id}", (*below, "creatives", k, "id")
            for k, arm in enumerate(item.split):
                yield f"{path}/{item.id}@{arm.id}", (*below, "split", k, "id")
                for creative in applied(item, arm).creatives:
                    yield f"{path}/{item.id}@{arm.id}/{creative.id}", (*below, "split", k, "id")


def _catalogue(parts: list[Compiled], version: str) -> Catalogue:
    """All files as one, line items in order of their highest bid, then of their path."""
    items = sorted(
        (item for part in parts for item in part.line_items),
        key=lambda item: (-item.bid.max_cpm_micros, item.path),
    )
    campaigns = tuple(campaign for part in parts for campaign in part.campaigns)
    names = {part.advertiser.id32: part.advertiser.id for part in parts}
    names |= {campaign.id32: campaign.path for campaign in campaigns}
    for item in items:
        names[item.id32] = item.path
        for creative in item.creatives:
            names[creative.id32] = creative.path
    return Catalogue(
        version=version,
        line_items=tuple(replace(item, index=index) for index, item in enumerate(items)),
        campaigns=campaigns,
        advertisers=tuple(part.advertiser for part in parts),
        names=names,
    )
