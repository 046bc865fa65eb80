"""Who would be in which segment, and who is? `bidder segments preview` and `bidder segments build`.

Both go through everyone in the store. The preview stores nothing; the build writes each profile,
only over what it read.
"""

from collections.abc import AsyncIterator, Callable

from msgspec import Struct

from bidder.crm.activity import Keep
from bidder.crm.asking import Crowd, members
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
        kept = [
            (person, values[2 * place + 1] or b"")
            for place, person in enumerate(people)
            if not (profile := decode_profile(values[2 * place])).opted_out
            and not profile.withdrawn
        ]
        crowd = Crowd(fresh([raw for _, raw in kept], keep, now), now)
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
