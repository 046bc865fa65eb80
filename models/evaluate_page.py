"""How does an evaluation look to people? One HTML page, pictures inside, nothing to fetch."""

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from io import BytesIO
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

matplotlib.use("Agg")

COLOURS = {"challenger": "#0b6e4f", "champion": "#b3541e"}
GREY = "#8a8f98"
MOST = 15
"""Line items, features: the largest are shown."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; color: #1d2430;
       padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse } th, td { text-align: right; padding: .25rem .8rem }
th:first-child, td:first-child { text-align: left } tr { border-bottom: 1px solid #e3e6ea }
figure { display: inline-block; margin: .6rem .8rem .6rem 0 } img { max-width: 100% }
p { max-width: 46rem }
"""
Figures = dict[str, Any]


def page(found: Figures) -> str:
    """The page of one evaluation (see `models.evaluate.evaluate`)."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>Evaluation</title><style>{_STYLE}</style>",
        f"<h1>{escape(' against '.join(found['models'].values()))}</h1>",
        f"<p>{found['rows']:,} impressions from {_date(found['first'])} to "
        f"{_date(found['last'])}, younger than all that the models were trained on. "
        "Intervals hold 95 % of bootstraps over people.</p>",
    ]
    for role, title in (
        ("click", "Click, given an impression"),
        ("conversion", "Sale, given a click"),
    ):
        parts.append(f"<h2>{title}</h2>")
        parts += _role(found[role])
    parts += ["<h2>Surplus</h2>", *_surplus(found["surplus"])]
    parts += ["<h2>What the trees look at</h2>", *_importance(found["importance"])]
    parts += ["<h2>Drift</h2>", *_drift(found["drift"])]
    return "\n".join(parts)


def _role(figures: Figures) -> list[str]:
    models = {name: one for name, one in figures.items() if name in COLOURS}
    if "auc_interval" not in models["challenger"]:
        count = int(models["challenger"]["positives"])
        return [f"<p>Only {count} positive rows: nothing can be said.</p>"]
    rows = [
        ("AUC", "auc", "auc_interval", ".4f"),
        ("log loss", "log_loss", "", ".6f"),
        ("normalised entropy", "normalised_entropy", "", ".4f"),
        ("predicted / observed", "calibration", "calibration_interval", ".3f"),
        ("rows", "rows", "", ",.0f"),
        ("positive", "positives", "", ",.0f"),
    ]
    parts = [_table(
        ["", *models],
        [[title, *[_figure(one, key, spread, form) for one in models.values()]]
         for title, key, spread, form in rows],
    )]  # fmt: skip
    if "difference" in figures:
        gap = figures["difference"]
        low, high = gap["log_loss_interval"]
        verdict = "worse" if low > 0 else "better" if high < 0 else "not told apart"
        parts.append(
            f"<p>Challenger less champion: log loss {gap['log_loss']:+.6f} "
            f"({low:+.6f} to {high:+.6f}), AUC {gap['auc']:+.4f}: {verdict}.</p>"
        )
    parts.append(_picture(lambda axes: _reliability(axes, models), "Said and came, in tenths"))
    parts.append(_picture(lambda axes: _hours(axes, models), "Observed / predicted by hour"))
    items = models["challenger"]["by_line_item"]
    shown = sorted(items.items(), key=lambda pair: -pair[1]["predicted"])[:MOST]
    parts.append(_table(
        ["line item", "rows", "predicted", "observed", "standard errors"],
        [[escape(name), f"{one['rows']:,.0f}", f"{one['predicted']:.1f}", f"{one['observed']:.0f}",
          f"{one['errors']:+.1f}"] for name, one in shown],
    ))  # fmt: skip
    return parts


def _figure(one: Figures, key: str, spread: str, form: str) -> str:
    if key not in one:
        return ""
    text = format(one[key], form)
    if spread:
        low, high = one[spread]
        text += f" ({low:{form}} to {high:{form}})"
    return text


def _surplus(figures: Figures) -> list[str]:
    text = ", ".join(f"{name} {figures[name]:,.2f}" for name in COLOURS if name in figures)
    if "difference" in figures:
        low, high = figures["difference_interval"]
        text += f"; difference {figures['difference']:+,.2f} ({low:+,.2f} to {high:+,.2f})"
    return [
        f"<p>{text}, in units of the advertisers' currencies: the impressions we won, bought again "
        "at the price paid by a model that values them above it, less that price.</p>"
    ]


def _importance(importance: dict[str, dict[str, float]]) -> list[str]:
    def drawing(gains: dict[str, float]) -> Callable[[Axes], None]:
        return lambda axes: _bars(axes, gains, ".0%")

    return [
        _picture(drawing(gains), f"Share of gain: {role}")
        for role, gains in importance.items()
        if gains
    ]


def _drift(drift: dict[str, float]) -> list[str]:
    if not drift:
        return ["<p>No rows of the period before.</p>"]

    def draw(axes: Axes) -> None:
        _bars(axes, drift, ".2f")
        for level in (0.1, 0.25):
            axes.axvline(level, color=GREY, linewidth=1, linestyle="--")

    return [
        "<p>Population stability index against the period before: above 0.1 a feature has moved, "
        "above 0.25 by much.</p>",
        _picture(draw, "Features that moved most"),
    ]


def _reliability(axes: Axes, models: Figures) -> None:
    for name, one in models.items():
        bins = one["reliability"]
        axes.errorbar(
            [b["said"] for b in bins], [b["came"] for b in bins],
            yerr=[1.96 * b["error"] for b in bins],
            fmt="o-", markersize=4, linewidth=1, color=COLOURS[name], label=name,
        )  # fmt: skip
    ends = [b["said"] for one in models.values() for b in one["reliability"]]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=GREY, linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log", nonpositive="clip")
    axes.set_xlabel("said")
    axes.set_ylabel("came")
    axes.legend(frameon=False)


def _hours(axes: Axes, models: Figures) -> None:
    for name, one in models.items():
        hours = {hour: row for hour, row in one["by_hour"].items() if row["predicted"] > 0}
        ratios = [row["observed"] / row["predicted"] for row in hours.values()]
        axes.plot(list(hours), ratios, "o-", markersize=4, linewidth=1, color=COLOURS[name])
    axes.axhline(1, color=GREY, linewidth=1)
    axes.set_xlabel("hour of the day")
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylim(bottom=0)


def _bars(axes: Axes, values: dict[str, float], form: str) -> None:
    top = sorted(values.items(), key=lambda pair: -pair[1])[:MOST][::-1]
    bars = axes.barh([name for name, _ in top], [value for _, value in top], color="#3a6ea5")
    axes.bar_label(bars, [format(value, form) for _, value in top], padding=2, fontsize=7)
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(x=0.12)


def _picture(draw: Callable[[Axes], None], title: str) -> str:
    figure, axes = plt.subplots(figsize=(5.2, 3.6), dpi=110, layout="constrained")
    draw(axes)
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    content = BytesIO()
    figure.savefig(content, format="png")
    plt.close(figure)
    data = b64encode(content.getvalue()).decode()
    return f"<figure><img alt='{escape(title)}' src='data:image/png;base64,{data}'></figure>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
