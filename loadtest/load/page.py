"""How do the figures look? One self-contained HTML page with plots."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.load.result import Result

mpl.rcParams["svg.fonttype"] = "path"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222 }
table { border-collapse: collapse; margin: 1rem 0; width: 100% }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
img { width: 100%; height: auto }
.note { background: #fff3cd; padding: .5rem .8rem; border-left: 4px solid #e0a800 }
"""


def page(url: str, results: Sequence[Result], notes: Sequence[str] = ()) -> str:
    """The HTML of one run; every result is one step."""
    pictures = [
        ("Latency by percentile, from the time a request was due", _percentiles),
        ("Latency over time", _over_time),
        ("Asked and achieved", _rates),
        ("Answers by status", _statuses),
    ]
    figures = "\n".join(
        f'<h2>{escape(title)}</h2>\n<img alt="{escape(title)}" src="{_picture(draw, results)}">'
        for title, draw in pictures
    )
    said = [f"{_label(result)}: {note}" for result in results for note in result.notes]
    all_notes = [*notes, *said]
    boxes = "\n".join(f'<p class="note">{escape(note)}</p>' for note in all_notes)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Load on {escape(url)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Load on {escape(url)}</h1>\n{boxes}\n{_table(results)}\n{figures}\n"
        "</body>\n</html>\n"
    )


COLUMNS: tuple[tuple[str, Callable[[Result], str]], ...] = (
    ("asked/s", lambda r: f"{r.asked_rps:,.0f}" if r.asked_rps else "max"),
    ("achieved/s", lambda r: f"{r.achieved_rps:,.0f}"),
    ("bids", lambda r: f"{r.bid_rate:.1%}"),
    ("late", lambda r: f"{r.late_share:.2%}"),
    ("failed", lambda r: f"{r.failed:,}"),
    ("p50 ms", lambda r: f"{r.p50_ms:.2f}"),
    ("p90 ms", lambda r: f"{r.p90_ms:.2f}"),
    ("p99 ms", lambda r: f"{r.p99_ms:.2f}"),
    ("p99.9 ms", lambda r: f"{r.p999_ms:.2f}"),
    ("max ms", lambda r: f"{r.max_ms:.1f}"),
    ("CPU", lambda r: f"{r.usage.cores:.0%}" if r.usage else ""),
    ("memory MB", lambda r: f"{r.usage.peak_rss_bytes / 1e6:,.0f}" if r.usage else ""),
)
"""The table of results: heading, and how a cell is written."""


def _table(results: Sequence[Result]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in COLUMNS)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell(result))}</td>" for _, cell in COLUMNS) + "</tr>"
        for result in results
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _picture(draw: Callable[[Axes, Sequence[Result]], None], results: Sequence[Result]) -> str:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    draw(figure.subplots(), results)
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()


def _label(result: Result) -> str:
    return f"{result.asked_rps:,.0f}/s" if result.asked_rps else "max"


def _percentiles(axes: Axes, results: Sequence[Result]) -> None:
    ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999]
    for result in results:
        at = [1 / (1 - percentile / 100) for percentile, _ in result.distribution]
        axes.plot(at, [ms for _, ms in result.distribution], marker=".", label=_label(result))
    axes.set_xscale("log")
    axes.set_xticks([1 / (1 - tick / 100) for tick in ticks], [f"{tick:g} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("ms")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()


def _over_time(axes: Axes, results: Sequence[Result]) -> None:
    start = 0.0
    for index, result in enumerate(results):
        seconds = [start + window.second for window in result.windows]
        for name, colour, values in (
            ("p50", "tab:blue", [window.p50_ms for window in result.windows]),
            ("p99", "tab:orange", [window.p99_ms for window in result.windows]),
            ("max", "tab:red", [window.max_ms for window in result.windows]),
        ):
            label = name if index == 0 else None
            axes.plot(seconds, values, color=colour, marker=".", lw=1, label=label)
        start += result.seconds
    axes.set_xlabel("seconds")
    axes.set_ylabel("ms")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()


def _rates(axes: Axes, results: Sequence[Result]) -> None:
    at = range(len(results))
    axes.bar([i - 0.2 for i in at], [r.asked_rps for r in results], 0.4, label="asked")
    axes.bar([i + 0.2 for i in at], [r.achieved_rps for r in results], 0.4, label="achieved")
    axes.set_xticks(list(at), [_label(result) for result in results])
    axes.set_ylabel("requests a second")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()


def _statuses(axes: Axes, results: Sequence[Result]) -> None:
    kinds: dict[str, list[int]] = {}
    for index, result in enumerate(results):
        counts = {"bid": result.bids}
        for status, count in result.statuses.items():
            name = f"{status} without a bid" if status == 200 else str(status)
            counts[name] = count - (result.bids if status == 200 else 0)
        counts["no answer"] = result.failed
        for name, count in counts.items():
            kinds.setdefault(name, [0] * len(results))[index] = count
    below = [0] * len(results)
    for name, values in kinds.items():
        if any(values):
            axes.bar(range(len(results)), values, 0.5, bottom=below, label=name)
            below = [low + value for low, value in zip(below, values, strict=True)]
    axes.set_xticks(range(len(results)), [_label(result) for result in results])
    axes.set_ylabel("requests")
    axes.legend()
