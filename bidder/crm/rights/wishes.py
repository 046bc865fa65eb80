"""What does a person change in what we know of them? Plain functions over a profile."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from bidder.openrtb.spelling import is_category_in
from bidder.person import Profile, bare

DAY_SECONDS = 86400
PAUSES = (7, 30, 90)
"""Days that a pause may last."""

What = Literal["interests", "fewer", "pause", "resume", "object", "allow"]


class Wish(Struct, frozen=True):
    """One thing a person declared."""

    what: What
    names: frozenset[str] = frozenset()
    """Of `interests` the categories they want, of `fewer` the advertisers."""
    among: frozenset[str] = frozenset()
    """What was asked about: names in it that are not in `names` are taken back."""
    days: int = 0
    """Of `pause`."""


def wished(profile: Profile, wish: Wish, now: int) -> Profile:
    """The profile with that done."""
    match wish.what:
        case "interests":
            return _interests(profile, wish, now)
        case "fewer":
            return replace(profile, fewer_ads=(profile.fewer_ads - wish.among) | wish.names)
        case "pause":
            return replace(profile, paused_until=now + wish.days * DAY_SECONDS)
        case "resume":
            return replace(profile, paused_until=0)
        case "object":
            return bare(replace(profile, opted_out=True))
        case "allow":
            return replace(profile, opted_out=False, paused_until=0)


def _interests(profile: Profile, wish: Wish, now: int) -> Profile:
    """Interests that were guessed and not confirmed are taken off for good, as those unticked."""
    asked = wish.among | wish.names
    others = {name: at for name, at in profile.interests.items() if not is_category_in(name, asked)}
    before: Mapping[str, int] = profile.interests
    wanted = {
        name: at
        for name, at in before.items()
        if is_category_in(name, asked) and is_category_in(name, wish.names)
    }
    wanted |= {name: now for name in wish.names if name not in profile.wanted}
    declared = {name: at for name, at in profile.wanted.items() if name not in asked}
    declared |= {name: profile.wanted.get(name, now) for name in wish.names}
    refused = (profile.unwanted - wish.names) | (asked - wish.names)
    return replace(profile, interests=others | wanted, wanted=declared, unwanted=refused)
