"""With which settings is the bidder measured? Everything switched on, the store beside it."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from loadtest.bench.workload import Workload

_INTRUSIVENESS = Path(__file__).parents[2] / "config" / "intrusiveness.yaml"
_BIDDER = """\
# Written by `python -m loadtest bench`.
workers: {workers}
listen: {{public_url: "https://bid.example"}}
store: {{url: {store_url}}}
models: {models}
tcf: {{vendor_id: {vendor_id}}}
"""

_EXCHANGE = """\
# Written by `python -m loadtest bench`: plain OpenRTB 2.6, from this machine only.
status: active
seat: {name}
currency: EUR
auction: first
timing: {{tmax_ms: 120, margin_ms: 5, notice_lag: 10m}}
price: {{in: [burl, nurl]}}
access: {{loopback_only: true}}
"""

_RATES = """\
# Written by `python -m loadtest bench`. All money of the workload is in EUR: no figure needs this.
base: EUR
date: {day}
max_age: never
per_base: {{USD: 1.1}}
"""


def write(config: Path, workload: Workload, store_url: str, models: Path, workers: int = 1) -> None:
    """Write `bidder.yaml`, `rates.yaml` and the exchange's profile into the folder `config`."""
    text = _BIDDER.format(
        workers=workers,
        store_url=json.dumps(store_url),
        models=json.dumps(str(models)),
        vendor_id=workload.vendor_id,
    )
    (config / "bidder.yaml").write_text(text)
    shutil.copy(_INTRUSIVENESS, config)
    (config / "rates.yaml").write_text(_RATES.format(day=datetime.now(UTC).date()))
    exchanges = config / "exchanges"
    exchanges.mkdir(exist_ok=True)
    (exchanges / f"{workload.exchange}.yaml").write_text(_EXCHANGE.format(name=workload.exchange))
