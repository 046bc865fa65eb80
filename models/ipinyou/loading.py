"""Which impressions are there? Three layouts of iPinYou's, read into the same columns.

- A table with a header, comma or tab separated, plain or compressed: `click`, `bidid`,
  `advertiser`, `usertag` and so on, as in sampled copies of the data.
- An original impression log (`imp.20130606.txt.bz2`): 24 tab-separated columns without a header
  (Zhang et al. 2014, table 1). Clicks are the rows of log type 2 in it, and the bid ids of
  `clk.20130606.txt.bz2` beside it.
- A folder of such logs.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
from numpy.typing import NDArray

from models.table import Flags

Strings = NDArray[np.object_]

LOGGED = (
    "bidid timestamp logtype userid useragent ip region city adexchange domain url urlid slotid "
    "slotwidth slotheight slotvisibility slotformat slotprice creative bidprice payprice keypage "
    "advertiser usertag"
).split()
USED = (
    "bidid weekday hour userid useragent ip region city adexchange domain slotid slotwidth "
    "slotheight slotvisibility slotformat slotprice creative bidprice advertiser usertag"
).split()
"""Known when bidding. The paying price is not, and how a row was sampled never will be."""
_NEEDED = ("bidid", "click")
"""Of a table with a header. Another column that is missing is known of no row."""
_ALIASES = {"ipinyouid": "userid", "user_id": "userid", "usertags": "usertag", "label": "click"}
_NOTHING = ("", "null", "na", "nan", "none")
_IMPRESSION, _CLICK = "1", "2"
_SYSTEMS = ("windows", "ios", "iphone", "ipad", "mac", "android", "linux")
_BROWSERS = ("theworld", "maxthon", "sogou", "opera", "chrome", "firefox", "safari", "msie", "ie")
TAG_DIGITS = 5
_EXACT_DIGITS = 15
"""A spreadsheet keeps this many digits of a number, then writes zeros."""


class ImpressionError(ValueError):
    """Impressions that cannot be read; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class Impressions:
    """Columns of strings of equal length, "" = not known; `tags` one tuple per row."""

    columns: dict[str, Strings]
    tags: list[tuple[str, ...]]
    tag_counts: NDArray[np.float64]
    """How many tags there were; more than are known where a spreadsheet spoilt them."""
    click: Flags
    intact: Flags

    def __len__(self) -> int:
        return len(self.click)


def read(path: Path) -> Impressions:
    """All impressions of a file or folder of logs. Raises `ImpressionError`."""
    if path.is_dir():
        logs = sorted(path.glob("imp.*")) + sorted(path.glob("*/imp.*"))
        if not logs:
            raise ImpressionError(f"{path}: no imp.* log in it")
        tables = [_logged(log) for log in logs]
        raw = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        return _impressions(path, raw)
    _, first = _first_line(path)
    if "bidid" in [name.lower() for name in first]:
        return _impressions(path, _headed(path))
    if len(first) == len(LOGGED):
        return _impressions(path, _logged(path))
    raise ImpressionError(
        f"{path}: neither a header with bidid nor {len(LOGGED)} columns (found {len(first)})"
    )


def _headed(path: Path) -> dict[str, Strings]:
    table = _table(path, None)
    raw = {_ALIASES.get(name.lower(), name.lower()): column for name, column in table.items()}
    if "timestamp" in raw:
        raw = _clocked(path, raw)
    missing = [name for name in _NEEDED if name not in raw]
    if missing:
        raise ImpressionError(f"{path}: no column {', '.join(missing)}")
    unknown = [name for name in USED if name not in raw]
    if unknown:
        print(f"{path}: without {', '.join(unknown)}", file=sys.stderr)
    nothing = np.full(len(raw["click"]), "", object)
    return dict.fromkeys(unknown, nothing) | raw


def _logged(path: Path) -> dict[str, Strings]:
    """An original log, with `click` from rows of log type 2 and from the click log beside it."""
    raw = _table(path, LOGGED)
    clicked = set(raw["bidid"][raw["logtype"] == _CLICK])
    beside = path.with_name(re.sub(r"^imp", "clk", path.name))
    if beside != path and beside.exists():
        clicked |= set(_table(beside, LOGGED)["bidid"])
    shown = raw["logtype"] == _IMPRESSION
    raw = {name: column[shown] for name, column in raw.items()}
    raw["click"] = np.array(["1" if bid in clicked else "0" for bid in raw["bidid"]], object)
    return _clocked(path, raw)


def _clocked(path: Path, raw: dict[str, Strings]) -> dict[str, Strings]:
    """With weekday (Sunday = 0, as in the sampled copies) and hour from the timestamp."""
    try:
        times = [datetime.strptime(stamp[:10], "%Y%m%d%H") for stamp in raw["timestamp"]]
    except ValueError as error:
        raise ImpressionError(f"{path}: a timestamp is not yyyyMMddHH... ({error})") from None
    weekdays = np.array([str(time.isoweekday() % 7) for time in times], object)
    hours = np.array([str(time.hour) for time in times], object)
    return raw | {"weekday": raw.get("weekday", weekdays), "hour": raw.get("hour", hours)}


def _first_line(path: Path) -> tuple[str, list[str]]:
    """What separates the fields of the first line, and the fields."""
    try:
        with pa.input_stream(path, compression="detect") as stream:
            line = stream.read(1 << 16).split(b"\n", 1)[0].decode(errors="replace").strip()
    except (OSError, EOFError, pa.ArrowException) as error:
        raise ImpressionError(f"{path}: cannot be read ({error})") from None
    if not line:
        raise ImpressionError(f"{path}: empty")
    separator = "\t" if "\t" in line else ","
    return separator, [name.strip('"') for name in line.split(separator)]


def _table(path: Path, names: Sequence[str] | None) -> dict[str, Strings]:
    """Every column as strings; `names` where there is no header."""
    separator, found = _first_line(path)
    if names and len(found) != len(names):
        raise ImpressionError(f"{path}: {len(found)} columns, not {len(names)}")
    try:
        with pa.input_stream(path, compression="detect") as stream:
            content = stream.read()
        table = csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(column_names=names),
            parse_options=csv.ParseOptions(
                delimiter=separator, quote_char='"' if separator == "," else False
            ),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in names or found},
                strings_can_be_null=False,
            ),
        )
    except (OSError, EOFError, pa.ArrowException) as error:
        raise ImpressionError(f"{path}: cannot be read ({error})") from None
    return {
        name: np.array([str(text).strip() for text in table.column(name).to_pylist()], object)
        for name in table.column_names
    }


def _impressions(path: Path, raw: dict[str, Strings]) -> Impressions:
    click = raw["click"] == "1"
    if not len(click):
        raise ImpressionError(f"{path}: no impression in it")
    if not np.isin(raw["click"], ("0", "1")).all():
        raise ImpressionError(f"{path}: a click is neither 0 nor 1")
    spoilt = raw.get("excel_mangled", np.full(len(click), "0", object)) == "1"
    columns = {name: np.array(_known(raw[name]), object) for name in USED}
    columns["useragent"] = np.array([_agent(text) for text in columns["useragent"]], object)
    lost = spoilt & np.array(["E+" in slot for slot in columns["slotid"]])
    columns["slotid"] = np.where(lost, "", columns["slotid"])
    told = [tags(text, bool(bad)) for text, bad in zip(columns["usertag"], spoilt, strict=True)]
    counts = np.array([count for _, count in told], float)
    return Impressions(columns, [known for known, _ in told], counts, click, ~spoilt)


def tags(text: str, spoilt: bool) -> tuple[tuple[str, ...], int]:
    """The tags of a row as far as known, and how many there were.

    Spoilt ones are several five-digit tags that a spreadsheet took for one number: the first 15
    digits are right, so the first three tags, and the number of digits tells how many there were.
    """
    if not text:
        return (), 0
    if spoilt and "," in text:
        digits = text.replace(",", "")
        kept = digits[:_EXACT_DIGITS]
        known = [kept[at : at + TAG_DIGITS] for at in range(0, len(kept), TAG_DIGITS)]
        return tuple(known), max(len(digits) // TAG_DIGITS, len(known))
    known = [tag for tag in text.split(",") if tag]
    return tuple(known), len(known)


def _known(column: Iterable[Any]) -> list[str]:
    return ["" if text.lower() in _NOTHING else text for text in column]


def _agent(text: str) -> str:
    """`windows_ie` from a user agent; what already looks so stays."""
    if re.fullmatch(r"[a-z]+_[a-z]+", text):
        return text
    lower = text.lower()
    system = next((name for name in _SYSTEMS if name in lower), "other")
    browser = next((name for name in _BROWSERS if name in lower), "other")
    system = "ios" if system in ("iphone", "ipad") else system
    return f"{system}_{'ie' if browser == 'msie' else browser}"
