import json
from pathlib import Path
from typing import Any
from datetime import datetime, UTC

CONFIG = Path(__file__).parents[2] / "config"
from bidder.explain import render
from bidder.campaigns.loading import load


async def test_demo(build: Any) -> None:
    cat, _ = load(CONFIG / "campaigns", now=datetime(2026, 11, 18, tzinfo=UTC))
    s = await build(cat)
    await s.know(
        {"ids": [["buyeruid.demo", "demo-person-1"]], "profile": {"segments": {"basket": "-5h"}}}
    )
    r = json.loads((CONFIG / "demo/request.json").read_text())
    print(render(await s.explain(r)))
    d = await s.decide(r)
    print(d)
    r["user"] = {}
    print(render(await s.explain(r)))
    r["regs"] = {"gdpr": 1}
    print(render(await s.explain(r)))
    print(await s.logged())
