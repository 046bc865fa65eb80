"""Which kinds of customers are there? Behavioural clusters, each named by what sets it apart.

    python -m models.clusters                          look: sizes, names, how sure
    python -m models.clusters --write                  and make them segments, cluster-...
    python -m models.clusters --clusters 6 --seed 2    so many, instead of as many as fit best

Mini-batch k-means (Sculley 2010) on recency, frequency and money, visits, messages and categories,
each scaled to mean 0 and variance 1. Without `--clusters` that number from 4 to 9 is taken whose
silhouette (Rousseeuw 1987) is best on a sample. `same again` says how much two trainings from
different starts agree (adjusted Rand index: 1 = wholly, 0 = by chance): below 0.5 the borders are
arbitrary. Somebody who did nothing yet is in no cluster. People come from the store that `--config`
names; STATE_DIR moves it.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from bidder.crm.asking import Crowd
from bidder.settings import Settings
from bidder.store.links import Links
from models import customers, listing
from models.customers import Features, Table

FILE = "clusters"
SIZES = range(4, 10)
SAMPLE = 5_000
"""People on whom the number of clusters is chosen."""
TRAITS = 2
"""How many traits name a cluster."""
LITTLE = 0.35
"""Standard deviations from the mean below which a trait sets nobody apart."""
WORDS = {
    "days since an order": ("lapsed", "bought-lately"), "orders": ("frequent", "seldom-buys"),
    "spent": ("big-spender", "small-spender"), "value of an order": ("dear", "cheap"),
    "buys in stores": ("in-store", "online"), "days since a visit": ("away", "on-site"),
    "days known": ("longstanding", "newcomer"), "visits": ("visitor", "few-visits"),
    "visits in 30 days": ("active-now", "quiet-now"), "products seen": ("browser", "looks-little"),
    "baskets": ("basket-filler", "no-baskets"), "app": ("app", "no-app"),
    "messages": ("mailed", "unmailed"), "messages read": ("reader", "ignores-mail"),
}  # fmt: skip
"""Trait -> what it is called where it is high, and where it is low."""


class Clusters(NamedTuple):
    """What was found: per person the number of a cluster, and per cluster its centre."""

    labels: npt.NDArray[np.int64]
    centres: Table
    silhouette: float
    same_again: float
    """Adjusted Rand index of this and another training."""


def fit(values: Table, size: int, seed: int) -> Clusters:
    """Clusters of scaled rows. `size` 0: as many of `SIZES` as fit best."""
    sample = values[np.random.default_rng(seed).permutation(len(values))[:SAMPLE]]
    if not size:
        sizes = [each for each in SIZES if each < len(sample)]
        if not sizes:
            raise ValueError(f"{len(values)} people are too few for {SIZES[0]} clusters")
        size = max(sizes, key=lambda each: _silhouette(sample, _trained(sample, each, seed)))
    elif size >= len(values):
        raise ValueError(f"{len(values)} people are too few for {size} clusters")
    model, other = _trained(values, size, seed), _trained(values, size, seed + 1)
    labels = np.asarray(model.predict(values), np.int64)
    return Clusters(
        labels=labels,
        centres=np.asarray(model.cluster_centers_),
        silhouette=_silhouette(sample, model),
        same_again=float(adjusted_rand_score(labels, other.predict(values))),
    )


def scaled(values: Table) -> Table:
    """Each column with mean 0 and variance 1; one that never varies is 0."""
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def names(features: Sequence[str], centres: Table) -> list[tuple[str, str]]:
    """For each cluster a name, all different, and in words what sets it apart."""
    found: list[tuple[str, str]] = []
    for centre in centres:
        order = np.argsort(-np.abs(centre), kind="stable")
        traits = [at for at in order.tolist() if abs(centre[at]) >= LITTLE] or order[:1].tolist()
        used = {name for name, _ in found}
        for count in range(TRAITS, len(order) + 1):
            name = "-".join(
                ["cluster", *[_word(features[at], centre[at]) for at in traits[:count]]]
            )
            if name not in used or count >= len(traits):
                break
        if name in used:
            name = f"{name}-{sum(each.startswith(name) for each in used) + 1}"
        said = [f"{'high' if centre[at] > 0 else 'low'} {features[at]}" for at in traits[:3]]
        found.append((name, ", ".join(said)))
    return found


def _word(feature: str, value: float) -> str:
    if feature in WORDS:
        return WORDS[feature][0 if value > 0 else 1]
    category = feature.removeprefix("interest in ")
    return category if value > 0 else f"not-{category}"


def _trained(values: Table, size: int, seed: int) -> MiniBatchKMeans:
    return MiniBatchKMeans(size, random_state=seed, batch_size=4096, n_init=5).fit(values)


def _silhouette(sample: Table, model: MiniBatchKMeans) -> float:
    labels = model.predict(sample)
    return float(silhouette_score(sample, labels)) if len(set(labels.tolist())) > 1 else -1.0


def features(raws: Sequence[bytes], categories: Sequence[str], now: int) -> Features:
    """What the clusters are made of."""
    crowd = Crowd(raws, now)
    return customers.joined(
        customers.buying(crowd, now), customers.behaviour(crowd, now, categories)
    )


async def run(links: Links, given: Settings, config: Path, size: int, seed: int, put: bool) -> str:
    """Find the clusters, write them if `put`, and say what they are."""
    now = int(time.time())
    people = await customers.read(links, customers.keep_of(given), now)
    known = [place for place, raw in enumerate(people.raws) if raw]
    table = features([people.raws[place] for place in known], customers.categories_of(config), now)
    clusters = fit(scaled(table.values), size, seed)
    named = names(table.names, clusters.centres)
    members: list[list[str]] = [[] for _ in named]
    for place, label in zip(known, clusters.labels.tolist(), strict=True):
        members[label].append(people.ids[place])
    found = [
        listing.Found(name, f"Behavioural cluster: {means}", some)
        for (name, means), some in zip(named, members, strict=True)
    ]
    lines = [
        f"{len(known):,} people in {len(found)} clusters; silhouette {clusters.silhouette:.2f}, "
        f"same again {clusters.same_again:.2f}",
        "",
    ]
    width = max(len(each.name) for each in found)
    for each in sorted(found, key=lambda one: -len(one.people)):
        share = 100 * len(each.people) / len(known)
        lines.append(f"{each.name:<{width}}  {len(each.people):>9,}  {share:5.1f} %  {each.means}")
    if put:
        path = listing.define(config, FILE, found)
        written = await listing.write(links, given, config, found)
        lines += ["", f"{path}; {written.people:,} people written"]
    return "\n".join(lines)


def main() -> None:
    """Find clusters in the store, show them, and make them segments if asked to."""
    parser = listing.options(FILE, __doc__)
    parser.add_argument("--clusters", type=int, default=0, metavar="K", help="how many")
    given = parser.parse_args()
    print(
        customers.on_store(
            given.config,
            lambda links, settings: run(
                links, settings, given.config, given.clusters, given.seed, given.write
            ),
        )
    )


if __name__ == "__main__":
    main()
