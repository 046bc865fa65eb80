"""Who is in which segment? Rules over many people at once, in numpy.

A `Crowd` is the records of many people end to end, and whose each of them is. A question of a
rule becomes an `Answer`: who fulfils it, and when they were last seen to. One person is a crowd of
one, so that a purchase reported live and a nightly build can never disagree.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bidder.crm import activity
from bidder.crm.activity import DTYPE, RECORD_BYTES, Kind, Records
from bidder.crm.segments import Ago, Amounts, Condition, Segment, Segments
from bidder.money import MICROS
from bidder.person import Profile

Mask = npt.NDArray[np.bool_]
Times = npt.NDArray[np.int64]
DAY = 86400


class Answer(NamedTuple):
    """Per person: whether, and the time of the latest event that shows it (0 = no event does)."""

    holds: Mask
    seen: Times


class Crowd:
    """What is known of `size` people at `now` (seconds since the epoch)."""

    def __init__(self, raws: Sequence[bytes | None], now: int) -> None:
        """`raws`: the stored activity of each person."""
        lengths = [len(raw) // RECORD_BYTES if raw else 0 for raw in raws]
        self.size = len(raws)
        self.now = now
        joined = b"".join(
            [raw[: n * RECORD_BYTES] for raw, n in zip(raws, lengths, strict=True) if raw]
        )
        self.records: Records = np.frombuffer(joined, DTYPE)
        self.who: npt.NDArray[np.int64] = np.repeat(np.arange(self.size), lengths)
        self.time: Times = self.records["time"].astype(np.int64)
        self.kind = np.ascontiguousarray(self.records["kind"])
        self.category = np.ascontiguousarray(self.records["category"])
        self.value: Times = self.records["value"].astype(np.int64)
        self._advertiser = np.ascontiguousarray(self.records["advertiser"])
        self._kinds: dict[tuple[int, tuple[Kind, ...]], Mask] = {}
        self._orders: dict[int, Orders] = {}
        self.listed: Mapping[str, Times] = {}
        """Segment -> when each person was put on its list, 0 = never."""

    def of(self, advertiser: int, kinds: tuple[Kind, ...]) -> Mask:
        """Which records are of these kinds and, unless it is 0, of this advertiser."""
        key = (advertiser, kinds)
        found = self._kinds.get(key)
        if found is None:
            found = self.kind == kinds[0]
            for kind in kinds[1:]:
                found |= self.kind == kind
            if advertiser:
                found &= self._advertiser == advertiser
            self._kinds[key] = found
        return found

    def count(self, rows: Mask) -> Times:
        """How many of these records each person has."""
        return np.bincount(self.who[rows], minlength=self.size)

    def latest(self, rows: Mask) -> Times:
        """Per person the time of the last of these records, 0 if there is none."""
        seen = np.zeros(self.size, np.int64)
        seen[self.who[rows]] = self.time[rows]  # in order of time: the last one stays
        return seen

    def earliest(self, rows: Mask) -> Times:
        """Per person the time of the first of these records, 0 if there is none."""
        seen = np.zeros(self.size, np.int64)
        seen[self.who[rows][::-1]] = self.time[rows][::-1]
        return seen

    def total(self, rows: Mask) -> Times:
        """Per person the sum of the values of these records, micros."""
        sums = np.zeros(self.size, np.int64)
        np.add.at(sums, self.who[rows], self.value[rows])
        return sums

    def orders(self, advertiser: int) -> "Orders":
        """The purchases of each person."""
        found = self._orders.get(advertiser)
        if found is None:
            found = self._orders[advertiser] = Orders(self, advertiser)
        return found


class Orders:
    """Per person: how many purchases, what they came to, the last, the one before, the gap."""

    def __init__(self, crowd: Crowd, advertiser: int) -> None:
        rows = crowd.of(advertiser, activity.PURCHASES)
        refunds = crowd.of(advertiser, (Kind.REFUND,))
        sums = crowd.of(advertiser, (Kind.EARLIER_PURCHASES,))
        self.count = crowd.count(rows)
        self.spent = crowd.total(rows | sums) - crowd.total(refunds)
        self.last = crowd.latest(rows)
        self.first = crowd.earliest(rows)
        if sums.any():
            references = crowd.records["reference"][sums]
            np.add.at(self.count, crowd.who[sums], (references & 0xFFFFFFFF).astype(np.int64))
            np.minimum.at(self.first, crowd.who[sums], (references >> 32).astype(np.int64))
        before = rows & (crowd.time < self.last[crowd.who])
        self.previous = crowd.latest(before)
        self.usual_gap = (self.last - self.first) / np.maximum(self.count - 1, 1)
        """Mean seconds between two purchases."""


class Baskets(NamedTuple):
    """Per person the basket left open, if any: `updated` is 0 where there is none."""

    updated: Times
    value: Times
    products: Times


def baskets(crowd: Crowd, advertiser: int) -> Baskets:
    """The last basket of each person, unless it was emptied or a purchase followed."""
    rows = crowd.of(advertiser, (Kind.BASKET,))
    updated = crowd.latest(rows)
    ended = crowd.latest(crowd.of(advertiser, (*activity.PURCHASES, Kind.BASKET_EMPTIED)))
    updated = np.where(ended >= updated, 0, updated)
    value, products = np.zeros(crowd.size, np.int64), np.zeros(crowd.size, np.int64)
    value[crowd.who[rows]] = crowd.value[rows]
    products[crowd.who[rows]] = crowd.records["count"][rows]
    left = updated > 0
    return Baskets(updated, np.where(left, value, 0), np.where(left, products, 0))


def listed(profiles: Sequence[Profile], segments: Segments) -> dict[str, Times]:
    """When each of these was put on the lists of segments that have one, as their profiles say."""
    return {
        name: np.array([each.segments.get(name, 0) for each in profiles], np.int64)
        for name in segments.listed()
    }


def members(crowd: Crowd, segments: Segments) -> dict[str, Answer]:
    """Who is in each segment; `seen` is never 0 for a member."""
    answers: dict[str, Answer] = {}
    for segment in segments.ordered:
        holds, seen = _Asker(crowd, segment, answers).ask(segment.when)
        if segment.seen is not None:
            kinds = segment.seen
            rows = crowd.of(segment.advertiser, kinds) if kinds else None
            seen = np.zeros(crowd.size, np.int64) if rows is None else crowd.latest(rows)
        answers[segment.name] = Answer(holds, np.where(holds & (seen == 0), crowd.now, seen))
    return answers


class _Asker:
    """Asks the questions of one segment."""

    def __init__(self, crowd: Crowd, segment: Segment, known: Mapping[str, Answer]) -> None:
        self._crowd = crowd
        self._segment = segment
        self._known = known

    def ask(self, condition: Condition) -> Answer:
        crowd = self._crowd
        if condition.all is not None:
            return self._all(condition.all)
        if condition.any is not None:
            return self._any(condition.any)
        if condition.not_ is not None:
            return self._unseen(~self.ask(condition.not_).holds)
        if condition.segment is not None:
            return self._known[condition.segment]
        if condition.event is not None:
            return self._event(condition)
        if condition.never is not None:
            return self._unseen(crowd.count(self._rows(condition, condition.never)) == 0)
        if condition.listed is not None:
            nobody = np.zeros(crowd.size, np.int64)
            since = crowd.listed.get(self._segment.name, nobody)
            return Answer(since > crowd.now - condition.listed, since)
        if condition.last is not None:
            return self._when(condition.ago, crowd.latest(self._rows(condition, condition.last)))
        if condition.first is not None:
            return self._when(condition.ago, crowd.earliest(self._rows(condition, condition.first)))
        return self._of_orders(condition)

    def _of_orders(self, condition: Condition) -> Answer:
        crowd, orders = self._crowd, self._crowd.orders(self._segment.advertiser)
        if condition.basket is not None:
            left = baskets(crowd, self._segment.advertiser)
            holds, seen = self._when(condition.basket.age, left.updated)
            return Answer(holds & _inside(left.value, condition.basket.value, MICROS), seen)
        if condition.orders is not None:
            holds = _inside(orders.count, condition.orders)
        elif condition.spent is not None:
            holds = _inside(orders.spent, condition.spent, MICROS)
        elif condition.returned is not None:
            rule = condition.returned
            holds = (orders.previous > 0) & (orders.last - orders.previous >= rule.gap)
            holds &= orders.last > crowd.now - rule.within
        elif condition.overdue is not None:
            late = condition.overdue
            holds = (orders.count >= late.orders) & (orders.usual_gap > 0)
            holds &= crowd.now - orders.last > late.times * orders.usual_gap
        else:
            assert condition.rfm is not None
            holds = orders.count > 0
            wanted = (condition.rfm.recency, condition.rfm.frequency, condition.rfm.money)
            for scores, allowed in zip(self._scores(), wanted, strict=True):
                holds &= np.isin(scores, allowed)
        return Answer(holds, np.where(holds, orders.last, 0))

    def _scores(self) -> tuple[Times, Times, Times]:
        """Recency, frequency and money of each person, 1 to 5, by the bounds of the file."""
        orders = self._crowd.orders(self._segment.advertiser)
        scale = self._segment.scale
        recency = 5 - np.searchsorted(scale.recency, self._crowd.now - orders.last, side="left")
        frequency = 1 + np.searchsorted(scale.frequency, orders.count, side="right")
        money = [bound * MICROS for bound in scale.money]
        return recency, frequency, 1 + np.searchsorted(money, orders.spent, side="right")

    def _rows(self, condition: Condition, kinds: object) -> Mask:
        """The records that a question is about."""
        crowd = self._crowd
        assert isinstance(kinds, tuple)
        rows = crowd.of(self._segment.advertiser, kinds)
        if condition.within is not None:
            rows = rows & (crowd.time > crowd.now - condition.within)
        if condition.category:
            rows = rows & (crowd.category == activity.category_id(condition.category))
        if "value" in condition.model_fields_set:
            rows = rows & _inside(crowd.value, condition.value, MICROS)
        return rows

    def _event(self, condition: Condition) -> Answer:
        crowd, rows = self._crowd, self._rows(condition, condition.event)
        count = crowd.count(rows)
        holds = count >= condition.at_least
        if condition.at_most is not None:
            holds &= count <= condition.at_most
        if condition.on_days is not None:
            pairs = np.unique(np.stack([crowd.who[rows], crowd.time[rows] // DAY]), axis=1)
            holds &= np.bincount(pairs[0], minlength=crowd.size) >= condition.on_days
        return Answer(holds, crowd.latest(rows))

    def _when(self, ago: Ago, time: Times) -> Answer:
        age = self._crowd.now - time
        holds = (time > 0) & (age >= ago.more_than)
        if ago.at_most is not None:
            holds &= age <= ago.at_most
        return Answer(holds, np.where(holds, time, 0))

    def _unseen(self, holds: Mask) -> Answer:
        return Answer(holds, np.zeros(self._crowd.size, np.int64))

    def _all(self, conditions: list[Condition]) -> Answer:
        holds, seen = np.ones(self._crowd.size, bool), np.zeros(self._crowd.size, np.int64)
        for condition in conditions:
            answer = self.ask(condition)
            holds &= answer.holds
            seen = np.maximum(seen, answer.seen)
        return Answer(holds, seen)

    def _any(self, conditions: list[Condition]) -> Answer:
        holds, seen = np.zeros(self._crowd.size, bool), np.zeros(self._crowd.size, np.int64)
        for condition in conditions:
            answer = self.ask(condition)
            holds |= answer.holds
            seen = np.maximum(seen, np.where(answer.holds, answer.seen, 0))
        return Answer(holds, seen)


def _inside(values: Times, wanted: Amounts, unit: int = 1) -> Mask:
    holds: Mask = values >= wanted.at_least * unit
    if wanted.at_most is not None:
        holds &= values <= wanted.at_most * unit
    return holds
