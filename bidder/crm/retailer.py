"""What would a French shop for lamps export? Files for the demo and for measuring, all invented.

Customers, orders online and in stores with the seasons of the trade (sales in January and June, a
rush before Christmas), visits, baskets left behind, emails sent and opened, app opens: about ten
events a person. The same seed gives the same files. Names, addresses and numbers are of nobody:
`example` domains and the telephone range that ARCEP keeps free for fiction (06 39 98).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

DAY = 86400
DAYS = 390
BROWSER = "retail-demo"
"""Somebody who always left a basket just now: the one that `config/crm/request.json` asks about."""
BASKET_AGE = 7200
CATEGORIES = ("suspensions", "lampadaires", "appliques", "lampes-de-bureau",
              "luminaires-exterieurs", "decoration")  # fmt: skip
STORES = ("Lyon Bellecour", "Lille Vieux-Bourse", "Paris Charonne", "Nantes Graslin")
_FIRST = ("camille", "louise", "hugo", "ines", "jules", "lina", "louis", "manon", "nathan", "zoe")
_LAST = ("martin", "bernard", "petit", "robert", "durand", "moreau", "simon", "laurent", "michel")
_HOURS = np.array(
    [1, 1, 1, 1, 1, 1, 2, 4, 6, 8, 9, 9, 10, 9, 8, 8, 9, 10, 12, 14, 15, 13, 8, 3], float
)


def make(folder: Path, people: int, now: int, seed: int = 1) -> list[Path]:
    """Write the files of a shop with so many customers into `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    shop = _Shop(people, now, np.random.default_rng(seed))
    return [
        shop.contacts(folder / "contacts.csv"),
        shop.orders(folder / "orders.csv"),
        shop.web(folder / "web.csv"),
        shop.stores(folder / "stores.csv"),
        shop.emails(folder / "emails.parquet"),
        shop.app(folder / "app.jsonl"),
    ]


class _Shop:
    """The customers, and how much each of them likes the shop."""

    def __init__(self, people: int, now: int, random: np.random.Generator) -> None:
        self._people = people
        self._now = now
        self._random = random
        self._loves = random.gamma(0.9, 1.1, people)
        self._known_days = np.minimum(random.exponential(260, people) + 1, DAYS).astype(int)
        self._subscribed = random.random(people) < 0.6
        self._reads = random.beta(0.8, 2.0, people)
        self._orders = self._times(np.minimum(random.poisson(self._loves * 1.2), 40))
        self._in_store = random.random(len(self._orders[0])) < 0.3

    def _times(self, counts: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """(customer, time) of so many events of each customer, by season and hour of the day."""
        random = self._random
        who = np.repeat(np.arange(self._people), counts)
        weights = np.array([_season(self._now - back * DAY) for back in range(DAYS)])
        climb = np.cumsum(weights)
        upto = climb[self._known_days[who] - 1]
        back = np.searchsorted(climb, random.random(len(who)) * upto)
        hour = random.choice(24, len(who), p=_HOURS / _HOURS.sum())
        midnight = self._now // DAY * DAY - back * DAY
        time = midnight + hour * 3600 + random.integers(0, 3600, len(who))
        time = np.where(time >= self._now, time - DAY, time)
        order = np.argsort(time, kind="stable")
        return who[order], time[order]

    def contacts(self, path: Path) -> Path:
        """The customers: semicolons and French dates, as a French spreadsheet writes them."""
        n, random = self._people, self._random
        number = np.arange(n)
        first = np.array(_FIRST)[random.integers(0, len(_FIRST), n)]
        last = np.array(_LAST)[random.integers(0, len(_LAST), n)]
        email = _glued(first, ".", last, number.astype(str), "@courriel.example")
        phone = _glued(
            "06 39 98 ",
            np.char.mod("%02d", number // 100 % 100),
            " ",
            np.char.mod("%02d", number % 100),
        )
        since = self._now - self._known_days * DAY
        empty = np.array([""])[np.zeros(n, int)]
        columns = {
            "client": _customers(number),
            "courriel": np.where(random.random(n) < 0.95, email, empty),
            "portable": np.where((random.random(n) < 0.5) & (number < 10_000), phone, empty),
            "navigateur": np.where(random.random(n) < 0.7, _browsers(number), empty),
            "client_depuis": _written(since, "%d/%m/%Y"),
            "refus_profilage": np.where(random.random(n) < 0.01, "oui", "non"),
        }
        _write_csv(path, columns, ";")
        return path

    def orders(self, path: Path) -> Path:
        """Orders of the web shop."""
        who, time = self._orders[0][~self._in_store], self._orders[1][~self._in_store]
        n = len(who)
        columns = {
            "order_number": _glued("W", np.arange(n).astype(str)),
            "customer": _customers(who),
            "ordered_at": _iso(time),
            "total": _prices(self._random, n),
            "items": self._random.poisson(0.8, n) + 1,
            "category": self._categories(n),
        }
        _write_csv(path, columns)
        return path

    def stores(self, path: Path) -> Path:
        """Purchases in the stores, by the customers who showed their card."""
        who, time = self._orders[0][self._in_store], self._orders[1][self._in_store]
        n = len(who)
        columns = {
            "ticket": _glued("T", np.arange(n).astype(str)),
            "carte": _customers(who),
            "date": _written(time, "%d/%m/%Y %H:%M"),
            "montant": np.char.replace(_prices(self._random, n), ".", ","),
            "magasin": np.array(STORES)[self._random.integers(0, len(STORES), n)],
        }
        _write_csv(path, columns, ";")
        return path

    def web(self, path: Path) -> Path:
        """What was done on the site: pages, products, baskets, by browser or by customer."""
        random = self._random
        who, time = self._times(np.minimum(random.poisson(0.8 + 4.5 * self._loves), 80))
        n = len(who)
        event = random.choice(["page", "product", "add_to_cart"], n, p=[0.42, 0.48, 0.10])
        by_browser = random.random(n) < 0.5
        basket = event == "add_to_cart"
        empty = np.array([""])[np.zeros(n, int)]
        columns = {
            "time": _iso(time),
            "event": event,
            "customer": np.where(by_browser, empty, _customers(who)),
            "browser": np.where(by_browser, _browsers(who), empty),
            "category": np.where(event == "page", "", self._categories(n)),
            "basket_value": np.where(basket, _prices(random, n), empty),
            "basket_items": np.where(basket, (random.poisson(0.7, n) + 1).astype(str), empty),
        }
        left = (str(np.datetime64(self._now - BASKET_AGE, "s")), "add_to_cart", "", BROWSER,
                "suspensions", "129.00", "1")  # fmt: skip
        columns = {
            name: np.append(values, last)
            for (name, values), last in zip(columns.items(), left, strict=True)
        }
        _write_csv(path, columns)
        return path

    def emails(self, path: Path) -> Path:
        """Newsletters: sent, opened, clicked, and subscriptions; by customer number."""
        random = self._random
        who, time = self._times(np.where(self._subscribed, random.poisson(3.4, self._people), 0))
        opened = random.random(len(who)) < self._reads[who]
        clicked = opened & (random.random(len(who)) < 0.2)
        joined = np.flatnonzero(self._subscribed)
        since = self._now - self._known_days[joined] * DAY
        parts = [
            (who, time, "sent"),
            (who[opened], time[opened] + 3600, "opened"),
            (who[clicked], time[clicked] + 3660, "clicked"),
            (joined, since, "subscribed"),
        ]
        table = pa.table(
            {
                "customer": pa.array(np.concatenate([_customers(each[0]) for each in parts])),
                "at": pa.array(
                    np.minimum(np.concatenate([each[1] for each in parts]), self._now)
                ).cast(pa.timestamp("s", "UTC")),
                "what": pa.array(
                    np.repeat([each[2] for each in parts], [len(e[0]) for e in parts])
                ),
            }
        )
        pa.parquet.write_table(table, path)
        return path

    def app(self, path: Path) -> Path:
        """Opens of the app, a tenth of the customers, as JSON Lines."""
        random = self._random
        counts = np.where(random.random(self._people) < 0.1, random.poisson(3, self._people), 0)
        who, time = self._times(counts)
        customers, times = _customers(who).tolist(), time.tolist()
        with path.open("w", encoding="utf-8") as file:
            file.writelines(
                f'{{"user":{{"customer":"{customer}"}},"ts":{at},"name":"open"}}\n'
                for customer, at in zip(customers, times, strict=True)
            )
        return path

    def _categories(self, n: int) -> Any:
        weights = np.array([5, 3, 2, 4, 1, 3], float)
        return np.array(CATEGORIES)[
            self._random.choice(len(CATEGORIES), n, p=weights / weights.sum())
        ]


def _season(time: int) -> float:
    """How busy the trade is on this day: sales, the dark months, Christmas."""
    day = np.datetime64(time, "s").astype("datetime64[D]")
    month = int(day.astype("datetime64[M]").astype(int)) % 12 + 1
    date = int((day - day.astype("datetime64[M]")).astype(int)) + 1
    if month == 12 and date <= 23:
        return 2.6
    if month == 11 and date >= 20:
        return 2.2
    if (month == 1 and date >= 8) or (month == 6 and date >= 22):
        return 1.8
    return 1.2 if month in (10, 11, 2) else 0.7 if month in (5, 7, 8) else 1.0


def _prices(random: np.random.Generator, n: int) -> Any:
    return np.char.mod("%.2f", np.clip(random.lognormal(4.3, 0.7, n), 8, 2500))


def _customers(numbers: Any) -> Any:
    return np.char.mod("ML%07d", numbers)


def _browsers(numbers: Any) -> Any:
    return np.char.mod("retail-%07d", numbers)


def _glued(*parts: Any) -> Any:
    glued = parts[0]
    for part in parts[1:]:
        glued = np.char.add(glued, part)
    return glued


def _iso(times: Any) -> Any:
    return np.datetime_as_string(times.astype("datetime64[s]"), unit="s")


def _written(times: Any, form: str) -> Any:
    import pyarrow.compute as pc

    stamps = pa.array(times.astype("datetime64[s]"))
    return pc.strftime(stamps, form.replace("%S", "00")).to_numpy(zero_copy_only=False)


def _write_csv(path: Path, columns: dict[str, Any], delimiter: str = ",") -> None:
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    options = pa.csv.WriteOptions(delimiter=delimiter, quoting_style="needed")
    pa.csv.write_csv(table, path, options)


def paths(folder: Path) -> Sequence[Path]:
    """The files that `make` wrote, in the order to import them."""
    names = ("contacts.csv", "orders.csv", "web.csv", "stores.csv", "emails.parquet", "app.jsonl")
    return [folder / name for name in names]
