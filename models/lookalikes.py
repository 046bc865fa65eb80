"""Who is like these customers, and no customer yet? From a seed to the N nearest prospects.

    python -m models.lookalikes --seed-segment buyer               look: how well it tells them
    python -m models.lookalikes --seed-segment rfm-champions --people 20000 --write

LightGBM learns to tell the seed from as many others who never bought, drawn at random (Ma 2016
find candidates by hashing first; here everybody is scored, a million in seconds). It sees only what
somebody may do who never bought, and of the seed only what they did *before* their first purchase;
the others are cut at moments drawn from the same days. So it cannot learn that buyers have bought,
nor that they have been here for longer.

A fifth of both is held out: `AUC` is the chance that a held-out member of the seed scores higher
than somebody at random, with its standard error (Hanley and McNeil 1982); `lift` is how many times
as many of the held-out seed a tenth of the people holds as a tenth picked at random. The N who
never bought and score highest become `lookalike-<seed>`.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from bidder.crm.activity import DTYPE, PURCHASES
from bidder.crm.asking import Crowd
from bidder.settings import Settings
from bidder.store.links import Links
from models import customers, listing
from models.customers import Table

FILE = "lookalikes"
HELD_OUT = 0.2
ROUNDS = 300
PARAMETERS = {
    "objective": "binary", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 40,
    "feature_fraction": 0.8, "bagging_fraction": 0.8, "bagging_freq": 1, "verbosity": -1,
    "deterministic": True, "num_threads": 1,
}  # fmt: skip
LEAST_SEED = 100
Mask = npt.NDArray[np.bool_]


class Quality(NamedTuple):
    """How well held-out members of the seed are told from others."""

    auc: float
    error: float
    """Standard error of the AUC."""
    lift: list[float]
    """By tenth of the scores, the highest first."""


class Trained(NamedTuple):
    """A model, and what it is worth."""

    booster: lgb.Booster
    quality: Quality
    importance: list[tuple[str, float]]
    """Feature -> its share of the gain, the largest first."""


def first_purchases(raws: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """When each person first bought; 0 = never."""
    found = np.zeros(len(raws), np.int64)
    for place, raw in enumerate(raws):
        records = np.frombuffer(raw, DTYPE)
        bought = records["time"][np.isin(records["kind"], PURCHASES)]
        if len(bought):
            found[place] = bought[0]
    return found


def examples(
    raws: Sequence[bytes], seed: Mask, categories: Sequence[str], now: int, random_seed: int
) -> tuple[customers.Features, npt.NDArray[np.int64]]:
    """What is known of the seed before they bought and of as many others at like moments, and
    which of the rows are the seed (1). Raises `ValueError` where these are too few."""
    random = np.random.default_rng(random_seed)
    bought = first_purchases(raws)
    cut = np.where(bought > 0, bought, now)
    # Somebody who is first heard of with a purchase was no prospect of whom one could know.
    some = np.array([bool(raw) for raw in customers.before(raws, cut)])
    members = np.flatnonzero(seed & some)
    others = np.flatnonzero(~seed & (bought == 0) & some)
    if min(len(members), len(others)) < LEAST_SEED:
        raise ValueError(
            f"{len(members)} of the seed and {len(others)} others are known by what they did "
            f"before they bought; at least {LEAST_SEED} of both are needed"
        )
    drawn = random.choice(others, size=min(len(others), len(members)), replace=False)
    moments = random.choice(cut[members], size=len(drawn))
    chosen, ends = np.concatenate([members, drawn]), np.concatenate([cut[members], moments])
    history = customers.before([raws[place] for place in chosen.tolist()], ends)
    table = customers.behaviour(Crowd(history, now), ends, categories)
    known = np.array([bool(raw) for raw in history])
    labels = np.concatenate([np.ones(len(members), np.int64), np.zeros(len(drawn), np.int64)])
    return customers.Features(table.names, table.values[known]), labels[known]


def train(names: Sequence[str], values: Table, labels: npt.NDArray[np.int64], seed: int) -> Trained:
    """Learn on four fifths, judge on the fifth that is held out, and keep that model."""
    order = np.random.default_rng(seed).permutation(len(labels))
    held = order[: int(len(order) * HELD_OUT)]
    learnt = order[len(held) :]
    stop, fit = learnt[: len(learnt) // 6], learnt[len(learnt) // 6 :]
    data = lgb.Dataset(values[fit], labels[fit], feature_name=_plain(names), free_raw_data=False)
    booster = lgb.train(
        PARAMETERS | {"seed": seed, "metric": "auc"},
        data,
        ROUNDS,
        valid_sets=[lgb.Dataset(values[stop], labels[stop], reference=data)],
        callbacks=[lgb.early_stopping(30, verbose=False)],
    )
    scores = np.asarray(booster.predict(values[held]))
    gain = np.asarray(booster.feature_importance("gain"), float)
    shares = gain / max(gain.sum(), 1e-9)
    ranked = sorted(zip(names, shares.tolist(), strict=True), key=lambda each: -each[1])
    return Trained(booster, quality(scores, labels[held]), ranked)


def quality(scores: Table, labels: npt.NDArray[np.int64]) -> Quality:
    """AUC by ranks, ties shared, and lift by tenths, of `scores` where `labels` is 1 or 0."""
    order = np.argsort(scores, kind="stable")
    _, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    yes, no = int(labels.sum()), int(len(labels) - labels.sum())
    if not yes or not no:
        raise ValueError("held out are only members of the seed, or none")
    auc = (ranks[labels == 1].sum() - yes * (yes + 1) / 2) / (yes * no)
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (yes - 1) * (one - auc**2) + (no - 1) * (two - auc**2)
    tenths = np.array_split(labels[order[::-1]], 10)
    lift = [float(tenth.mean() / labels.mean()) if len(tenth) else 0.0 for tenth in tenths]
    return Quality(float(auc), float(np.sqrt(spread / (yes * no))), lift)


def nearest(
    trained: Trained,
    raws: Sequence[bytes],
    seed: Mask,
    categories: Sequence[str],
    now: int,
    most: int,
) -> npt.NDArray[np.int64]:
    """The places of the prospects, at most `most`, who score highest; equals in their order."""
    bought = first_purchases(raws)
    prospects = np.flatnonzero(~seed & (bought == 0) & np.array([bool(raw) for raw in raws]))
    crowd = Crowd([raws[place] for place in prospects.tolist()], now)
    scores = np.asarray(trained.booster.predict(customers.behaviour(crowd, now, categories).values))
    found: npt.NDArray[np.int64] = prospects[np.argsort(-scores, kind="stable")[:most]]
    return found


def _plain(names: Sequence[str]) -> list[str]:
    return [name.replace(" ", "_") for name in names]


async def run(
    links: Links, given: Settings, config: Path, segment: str, most: int, seed: int, put: bool
) -> str:
    """Learn the seed, say how well, find who is like it, and write them if `put`."""
    now = int(time.time())
    categories = customers.categories_of(config)
    people = await customers.read(links, customers.keep_of(given), now)
    members = np.array([segment in each for each in people.segments], bool)
    table, labels = examples(people.raws, members, categories, now, seed)
    trained = train(table.names, table.values, labels, seed)
    places = nearest(trained, people.raws, members, categories, now, most)
    found = listing.Found(
        f"lookalike-{segment}",
        f"Never bought, and visits as those in {segment} did before they bought",
        [people.ids[place] for place in places.tolist()],
    )
    judged = trained.quality
    lines = [
        f"seed {segment}: {int(members.sum()):,} of {len(people.ids):,} people; "
        f"{int(labels.sum()):,} with a past, {len(labels) - int(labels.sum()):,} others",
        f"held out: AUC {judged.auc:.3f} (standard error {judged.error:.3f}); lift by tenth "
        + " ".join(f"{each:.2f}" for each in judged.lift),
        "told by: "
        + ", ".join(f"{name} {100 * share:.0f} %" for name, share in trained.importance[:5]),
        f"{found.name}: {len(found.people):,} prospects",
    ]
    if judged.auc - 2 * judged.error <= 0.5:
        lines.append("no better than chance: nothing is written")
    elif put:
        path = listing.define(config, f"{FILE}-{segment}", [found])
        written = await listing.write(links, given, config, [found])
        lines.append(f"{path}; {written.people:,} people written")
    return "\n".join(lines)


def main() -> None:
    """Find the prospects who are most like the members of a segment."""
    parser = listing.options(FILE, __doc__)
    parser.add_argument("--seed-segment", required=True, metavar="NAME", help="whom to be like")
    parser.add_argument("--people", type=int, default=10_000, metavar="N", help="how many to find")
    given = parser.parse_args()
    print(
        customers.on_store(
            given.config,
            lambda links, settings: run(
                links, settings, given.config, given.seed_segment, given.people, given.seed,
                given.write,
            ),
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
