"""Who would be in which segment, and who is? `bidder segments preview` and `bidder segments build`.

Both go through everyone in the store. The preview stores nothing; the build writes each profile,
only over what it read.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping

from msgspec import Struct

from bidder.crm.activity import Keep
from bidder.crm.asking import Crowd, listed, members
from bidder.crm.batch import Written
from bidder.crm.deriving import fresh
from bidder.crm.segments import Segments
from bidder.crm.writing import Writer
from bidder.people.reading import decode_profile
from bidder.store import keys
from bidder.store.coalesce import Reader
from bidder.store.links import Links
from bidder.store.scan import scan

BATCH = 4000
EXAMPLES = 3


class Size(Struct):
    """One segment in a preview."""

    means: str
    people: int = 0
    newest: int = 0
    oldest: int = 0
    """Times last seen of its members."""
    examples: list[str] = []
    """Person ids: pseudonyms, for `bidder people show`."""


class Preview(Struct):
    """What `bidder segments build` would come to."""

    people: int
    sizes: dict[str, Size]
    overlaps: dict[tuple[str, str], int]
    """People in both of two segments, names in order."""


async def everyone(links: Links) -> AsyncIterator[list[str]]:
    """The ids of all people with a profile, some at a time."""
    waiting: dict[str, None] = {}
    async for found in scan(links, keys.profile("*")):
        waiting.update((key[3:-1], None) for key in found)
        while len(waiting) >= BATCH:
            batch = list(waiting)[:BATCH]
            yield batch
            for person in batch:
                del waiting[person]
    if waiting:
        yield list(waiting)


async def preview(
    links: Links,
    segments: Segments,
    keep: Keep,
    now: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Preview:
    """How many people each segment would have, who for example, and how they overlap."""
    sizes = {each.name: Size(each.means) for each in segments.ordered}
    overlaps: dict[tuple[str, str], int] = {}
    reader, done = Reader(links), 0
    async for people in everyone(links):
        asked = [key for person in people for key in (keys.profile(person), keys.activity(person))]
        values = await reader.get_many(asked)
        profiles = [decode_profile(raw) for raw in values[::2]]
        kept = [
            (person, profile, raw or b"")
            for person, profile, raw in zip(people, profiles, values[1::2], strict=True)
            if not profile.opted_out and not profile.withdrawn
        ]
        crowd = Crowd(fresh([raw for _, _, raw in kept], keep, now), now)
        crowd.listed = listed([profile for _, profile, _ in kept], segments)
        answers = members(crowd, segments)
        for name, (holds, seen) in answers.items():
            size, found = sizes[name], holds.nonzero()[0]
            if not len(found):
                continue
            size.people += len(found)
            size.newest = max(size.newest, int(seen[found].max()))
            oldest = int(seen[found].min())
            size.oldest = min(size.oldest, oldest) if size.oldest else oldest
            room = EXAMPLES - len(size.examples)
            size.examples += [kept[place][0] for place in found[:room].tolist()]
        _overlap(overlaps, {name: each.holds for name, each in answers.items()})
        done += len(people)
        progress(done)
    return Preview(done, sizes, overlaps)


def _overlap(overlaps: dict[tuple[str, str], int], holds: dict[str, object]) -> None:
    import numpy as np

    names = sorted(holds)
    if not names:
        return
    table = np.stack([np.asarray(holds[name]) for name in names]).astype(np.float32)
    both = table @ table.T
    for row, one in enumerate(names):
        for column in range(row + 1, len(names)):
            if both[row, column]:
                pair = (one, names[column])
                overlaps[pair] = overlaps.get(pair, 0) + int(both[row, column])


async def enlist(
    writer: Writer,
    lists: Mapping[str, Collection[str]],
    now: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Written:
    """Make `lists`, segment -> person ids, the members of segments that have a list (`listed`).

    Who was on one of these lists and no longer is leaves it. The others keep what they have.
    Raises `ValueError` for a segment that has no list.
    """
    if unknown := lists.keys() - writer.segments.listed():
        raise ValueError(f"no segment with a list is called {', '.join(sorted(unknown))}")
    on: dict[str, list[str]] = {}
    for name, people in lists.items():
        for person in people:
            on.setdefault(person, []).append(name)
    written, done = Written(), 0
    async for people in everyone(writer.links):
        written.add(await writer.refresh(people, now, frozenset(lists), on))
        done += len(people)
        progress(done)
    return written


async def build(
    links: Links, writer: Writer, now: int, progress: Callable[[int], None] = lambda done: None
) -> Written:
    """Judge everyone again, and write them."""
    written, done = Written(), 0
    async for people in everyone(links):
        written.add(await writer.refresh(people, now))
        done += len(people)
        progress(done)
    return written
