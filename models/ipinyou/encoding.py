"""How do impressions become numbers? Words for a linear model, encoded rates for trees.

The words are every value, and every value and tag together with the advertiser: people tagged as
in the market for what an advertiser sells are the clicks on it. The rates are smoothed log-odds of
a click by value, each row's learnt without the row (five inner folds), so that a rare value does
not betray its own label.
"""

from collections import Counter
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.ipinyou.loading import Impressions, Strings
from models.table import Flags, Floats

INNER = 5
LEAST_ROWS = 3
"""A word seen less often than this in training is not one."""
LEAST_ROWS_OF_TAG = 40
_TAG_WORDS = ("tag=", "tag/advertiser=", "first/advertiser=")
_SMOOTHING = 20.0
_TAG_SMOOTHING = 10.0
_WORDS = (
    "advertiser weekday hour useragent region city adexchange domain slotid slotvisibility "
    "slotformat creative bidprice size network cookie floor"
).split()
_CROSSED = (
    "useragent adexchange domain slotid slotvisibility slotformat weekday hour region size"
).split()
_RATED = (
    "advertiser creative domain size city region useragent slotid slotvisibility slotformat "
    "adexchange network cookie"
).split()
_RATED_CROSSED = ("domain", "slotid")
_MEASURED = ("weekday", "hour", "slotprice", "slotwidth", "slotheight", "bidprice")


@dataclass(frozen=True, slots=True)
class Rows:
    """Impressions with derived values, the words and the tags of each row."""

    values: dict[str, Strings]
    words: list[list[str]]
    tags: list[list[str]]
    advertiser_tags: list[list[str]]
    tag_counts: Floats
    fold: NDArray[np.int64]
    """Inner fold."""

    def __len__(self) -> int:
        return len(self.words)


def fold(bidids: Strings, folds: int, salt: str = "") -> NDArray[np.int64]:
    """A fold per row by hash of its bid id: the same in every run and every file."""
    return np.array([crc32(f"{salt}{bid}".encode()) % folds for bid in bidids], np.int64)


def rows(impressions: Impressions) -> Rows:
    """What can be said of each impression without having learnt anything."""
    values = dict(impressions.columns)
    join = zip(values["slotwidth"], values["slotheight"], strict=True)
    values["size"] = np.array([f"{width}x{height}" for width, height in join], object)
    values["network"] = np.array([".".join(ip.split(".")[:2]) for ip in values["ip"]], object)
    # The start of a user id is the time its cookie was set: new cookies behave differently.
    values["cookie"] = np.array([user[2:5] for user in values["userid"]], object)
    floors = np.log1p(_numbers(values["slotprice"], 0.0).clip(0)) * 2
    values["floor"] = floors.astype(int).astype(str).astype(object)
    advertisers = values["advertiser"]
    listed = [list(own) or ["none"] for own in impressions.tags]
    paired = [[f"{a}:{tag}" for tag in own] for a, own in zip(advertisers, listed, strict=True)]
    words = [[f"tags={min(count, 10):.0f}"] for count in impressions.tag_counts]
    for name in _WORDS:
        _add(words, [f"{name}={value}" for value in values[name]])
    for name in _CROSSED:
        pairs = zip(advertisers, values[name], strict=True)
        _add(words, [f"{name}/advertiser={value}/{a}" for a, value in pairs])
    for number, own in enumerate(listed):
        words[number] += [f"tag={tag}" for tag in own]
        words[number] += [f"tag/advertiser={pair}" for pair in paired[number]]
        words[number].append(f"first/advertiser={paired[number][0]}")
    inner = fold(values["bidid"], INNER, "inner/")
    return Rows(values, words, listed, paired, impressions.tag_counts, inner)


def vocabulary(words: list[list[str]], least: int = LEAST_ROWS) -> dict[str, int]:
    """A column for each word seen often enough."""
    seen = Counter(word for own in words for word in set(own))
    kept = sorted(word for word, count in seen.items() if count >= least)
    return {word: column for column, word in enumerate(kept)}


def common_tags(train: Rows) -> dict[str, int]:
    """A column for each common tag, alone and with the advertiser, for the trees to see."""
    tags = [[word for word in own if word.startswith(_TAG_WORDS)] for own in train.words]
    return vocabulary(tags, LEAST_ROWS_OF_TAG)


def matrix(words: list[list[str]], columns: dict[str, int]) -> sparse.csr_matrix:
    """One row of ones and zeros per impression."""
    found = [sorted({columns[word] for word in own if word in columns}) for own in words]
    pointers = np.cumsum([0, *map(len, found)])
    indices = np.array([column for own in found for column in own], np.int32)
    shape = (len(words), len(columns))
    return sparse.csr_matrix((np.ones(len(indices)), indices, pointers), shape=shape)


def dense(train: Rows, click: Flags, other: Rows) -> tuple[Floats, Floats]:
    """Measured columns and encoded rates, of the training rows (out of fold) and of others."""
    ours, theirs = [train.tag_counts], [other.tag_counts]
    for name in _MEASURED:
        ours.append(_numbers(train.values[name], np.nan))
        theirs.append(_numbers(other.values[name], np.nan))
    for known, unknown, smoothing in _keys(train, other):
        encoded = _encoded(known, click, train.fold, unknown, smoothing)
        ours += encoded[0]
        theirs += encoded[1]
    return np.column_stack(ours), np.column_stack(theirs)


def _keys(train: Rows, other: Rows) -> list[tuple[list[list[str]], list[list[str]], float]]:
    def single(rows: Rows, name: str, crossed: bool = False) -> list[list[str]]:
        if crossed:
            pairs = zip(rows.values["advertiser"], rows.values[name], strict=True)
            return [[f"{a}/{value}"] for a, value in pairs]
        return [[value] for value in rows.values[name]]

    keys = [(single(train, name), single(other, name), _SMOOTHING) for name in _RATED]
    keys += [(single(train, n, True), single(other, n, True), _SMOOTHING) for n in _RATED_CROSSED]
    keys.append((train.tags, other.tags, _TAG_SMOOTHING))
    keys.append((train.advertiser_tags, other.advertiser_tags, _TAG_SMOOTHING))
    return keys


def _encoded(
    known: list[list[str]],
    click: Flags,
    inner: NDArray[np.int64],
    unknown: list[list[str]],
    smoothing: float,
) -> tuple[list[Floats], list[Floats]]:
    """Log-odds of a click over the average's by key; of several keys the highest, sum and lowest.

    Keys not seen in training count as average.
    """
    names = {key: number for number, key in enumerate(sorted({k for own in known for k in own}))}
    mine, theirs = _flat(known, names), _flat(unknown, names)
    learnt = _log_odds(mine, click, np.ones(len(click), bool), len(names), smoothing)
    outside = _summed(theirs, learnt, len(unknown))
    inside = np.zeros((len(outside), len(known)))
    for number in range(INNER):
        held = inner == number
        learnt = _log_odds(mine, click, ~held, len(names), smoothing)
        inside[:, held] = np.array(_summed(mine, learnt, len(known)))[:, held]
    several = any(len(own) > 1 for own in known)
    count = 3 if several else 1
    return list(inside[:count]), outside[:count]


Flat = tuple[NDArray[np.int64], NDArray[np.int64]]


def _flat(keys: list[list[str]], names: dict[str, int]) -> Flat:
    """(row, key number) of every key; one that is not in `names` has the number after all."""
    owners = np.repeat(np.arange(len(keys)), [len(own) for own in keys])
    numbers = [names.get(key, len(names)) for own in keys for key in own]
    return owners, np.array(numbers, np.int64)


def _log_odds(flat: Flat, click: Flags, seen: Flags, names: int, smoothing: float) -> Floats:
    owners, numbers = flat
    use = seen[owners]
    base = (click[seen].sum() + 1) / (seen.sum() + 2)
    shown = np.bincount(numbers[use], minlength=names + 1)
    clicked = np.bincount(numbers[use], click[owners[use]], minlength=names + 1)
    rate = (clicked + smoothing * base) / (shown + smoothing)
    odds: Floats = (np.log(rate / (1 - rate)) - np.log(base / (1 - base))).astype(np.float64)
    odds[names] = 0.0
    return odds


def _summed(flat: Flat, odds: Floats, size: int) -> list[Floats]:
    owners, numbers = flat
    own = odds[numbers]
    highest, lowest = np.full(size, -np.inf), np.full(size, np.inf)
    np.maximum.at(highest, owners, own)
    np.minimum.at(lowest, owners, own)
    total = np.bincount(owners, own, minlength=size).astype(np.float64)
    return [highest, total, lowest]


def _add(words: list[list[str]], more: list[str]) -> None:
    for own, word in zip(words, more, strict=True):
        own.append(word)


def _numbers(column: Strings, missing: float) -> Floats:
    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return missing

    return np.array([number(text) for text in column])
