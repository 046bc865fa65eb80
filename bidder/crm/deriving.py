"""What does the bidder need to know of a person, given what they did? Activity becomes a `Profile`.

What people told us themselves (an objection, fewer ads, interests, consent) is carried over; all
else is worked out again from the records, so that doing it twice, or in another order, changes
nothing. The work is done for many people at once.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from bidder.crm import activity
from bidder.crm.activity import Keep
from bidder.crm.asking import Crowd, Times, baskets, listed, members
from bidder.crm.segments import Segments
from bidder.person import Basket, Profile, bare


def fresh(raws: Sequence[bytes], keep: Keep, now: int) -> list[bytes]:
    """Stored activities without the records that are too old."""
    crowd = Crowd(raws, now)
    old = activity.expired(crowd.records, keep, now)
    if not old.any():
        return list(raws)
    stale = set(crowd.who[old].tolist())
    return [_without(raw, keep, now) if at in stale else raw for at, raw in enumerate(raws)]


def _without(raw: bytes, keep: Keep, now: int) -> bytes:
    records = activity.opened(raw)
    return records[~activity.expired(records, keep, now)].tobytes()


def derived(
    known: Sequence[Profile],
    raws: Sequence[bytes | None],
    segments: Segments,
    advertisers: Mapping[int, str],
    now: int,
) -> list[Profile]:
    """The profiles of people from what they told us (`known`) and what they did (`raws`).

    `advertisers`: 32-bit id -> name, of all whose baskets should be known.
    """
    if not known:
        return []
    crowd = Crowd(raws, now)
    crowd.listed = listed(known, segments)
    orders = crowd.orders(0)
    every = np.ones(len(crowd.records), bool)
    first, visited = crowd.earliest(every), crowd.latest(crowd.of(0, activity.VISITS))
    memberships = _memberships(crowd, segments)
    interests = _interests(crowd, segments)
    left = _baskets(crowd, advertisers)
    stages = _stages(segments, memberships)
    columns = zip(
        first.tolist(),
        visited.tolist(),
        orders.last.tolist(),
        orders.count.tolist(),
        np.maximum(orders.spent, 0).tolist(),
        strict=True,
    )
    profiles = []
    for place, (profile, row) in enumerate(zip(known, columns, strict=True)):
        if profile.opted_out or profile.withdrawn:
            profiles.append(bare(profile))
            continue
        seen, last_visit, last_order, count, spent = row
        said = profile.first_seen
        profiles.append(
            replace(
                profile,
                segments=memberships[place],
                first_seen=min(said, seen) if said and seen else said or seen,
                last_visit=last_visit,
                last_order=last_order,
                orders=count,
                spent_micros=spent,
                stage=stages[place],
                baskets=left.get(place, {}),
                interests=_liked(profile, interests[place]),
            )
        )
    return profiles


def _liked(profile: Profile, shown: dict[str, int]) -> dict[str, int]:
    """What interests a person: what they did shows it (`shown`), but for what they told us."""
    if profile.wanted:
        shown = {**shown, **profile.wanted}
    if profile.unwanted:
        shown = {name: at for name, at in shown.items() if name not in profile.unwanted}
    return shown


def last_heard(profile: Profile, last_record: int, now: int) -> int:
    """When we last heard of a person, seconds since the epoch: their time here counts from then.

    `last_record` is the time of their latest record, 0 if there is none. An objection counts as
    heard whenever somebody writes of the person, since it must outlive all that it objects to.
    """
    if profile.opted_out or profile.withdrawn:
        return now
    return max(last_record, profile.first_seen, profile.consent_time, *profile.wanted.values(), 0)


def _memberships(crowd: Crowd, segments: Segments) -> list[dict[str, int]]:
    """Per person: the segments they are in -> the time last seen."""
    return _by_person(
        crowd.size,
        {
            name: np.where(holds, np.minimum(seen, crowd.now), 0)
            for name, (holds, seen) in members(crowd, segments).items()
        },
    )


def _by_person(size: int, times: Mapping[str, Times]) -> list[dict[str, int]]:
    """Per person: name -> time, of those of `times` that are not 0."""
    found: list[dict[str, int]] = [{} for _ in range(size)]
    for name, seen in times.items():
        places = np.flatnonzero(seen)
        for place, time in zip(places.tolist(), seen[places].tolist(), strict=True):
            found[place][name] = time
    return found


def _stages(segments: Segments, found: list[dict[str, int]]) -> list[str]:
    """The stage of the first segment, in the order of the files, that has one and holds."""
    staged = [(segment.name, segment.stage) for segment in segments.ordered if segment.stage]
    return [
        next((stage for name, stage in staged if name in memberships), "") for memberships in found
    ]


def _interests(crowd: Crowd, segments: Segments) -> list[dict[str, int]]:
    """Per person: the content that what they looked at shows an interest in -> the last time."""
    latest: dict[str, Times] = {}
    for category, content in segments.interests.items():
        seen = crowd.latest(crowd.category == activity.category_id(category))
        latest[content] = np.maximum(latest[content], seen) if content in latest else seen
    return _by_person(crowd.size, latest)


def _baskets(crowd: Crowd, advertisers: Mapping[int, str]) -> dict[int, dict[str, Basket]]:
    found: dict[int, dict[str, Basket]] = {}
    for id32, name in advertisers.items():
        left = baskets(crowd, id32)
        for place in np.flatnonzero(left.updated).tolist():
            basket = Basket(
                value_micros=int(left.value[place]),
                updated=int(left.updated[place]),
                products=int(left.products[place]) or 1,
            )
            found.setdefault(place, {})[name] = basket
    return found
