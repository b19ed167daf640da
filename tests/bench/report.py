"""The table and the JSON of a run."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.figure import Figure, Target
from tests.bench.sampling import Series, Unit

_SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "1/s": ((1, "/s"),),
    "x": ((1, ""),),
}


def shown(value: float, unit: Unit) -> str:
    """Three digits that matter and the unit that fits, e.g. `0.612 ms`."""
    scales = _SCALES[unit]
    # A tenth of the next unit still reads better in that one: targets are written as 0.3 ms, not 300 µs.
    scale, name = next((one for one in scales if abs(value) >= 0.1 * one[0]), scales[-1])
    scaled = value / scale
    digits = 0 if abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2 if abs(scaled) >= 1 else 3
    return f"{scaled:,.{digits}f} {name}".strip()


def lines(figure: Figure) -> list[str]:
    """A figure in the table: ours first, then what it stands beside with ours as a multiple of it."""
    out = [figure.title, _line(figure.ours, _target(figure.target, figure.ours), "")]
    for beside in figure.beside:
        ratio = beside.ratio(figure.ours)
        verdict = ""
        if beside.most is not None:
            verdict = f"ours ≤ x{_short(beside.most)}: {_word(ratio <= beside.most)}"
        out.append(_line(beside.series, verdict, f"x{_short(ratio)}"))
    return out


def _line(series: Series, verdict: str, ratio: str) -> str:
    low, high = (shown(series.quantile(share), series.unit) for share in (0.1, 0.9))
    spread = f"{low} – {high}" if len(series.samples) > 1 else ""
    median = shown(series.median, series.unit)
    return f"  {series.name:<26.26} {median:>9}  {spread:<21} {ratio:>8}  {verdict}".rstrip()


def _target(target: Target | None, ours: Series) -> str:
    if target is None:
        return ""
    sign = "≥" if target.at_least else "≤"
    worst = f"worst {shown(target.value(ours), ours.unit)} " if target.of == "worst" else ""
    return f"{worst}{sign} {shown(target.limit, ours.unit)}: {_word(target.met(ours))}"


def _word(met: bool) -> str:
    return "met" if met else "NOT MET"


def _short(ratio: float) -> str:
    return f"{ratio:.3g}" if ratio < 100 else f"{ratio:.0f}"


def document(figures: dict[str, list[Figure]], missing: dict[str, str], facts: dict[str, Any]) -> str:
    """Everything as JSON: each series with its quantiles and its samples, each ratio, each verdict."""
    return json.dumps(
        {
            "run": facts,
            "figures": [
                {"benchmark": name, **_figure(figure)} for name, group in figures.items() for figure in group
            ],
            "not_measured": missing,
        },
        indent=1,
        ensure_ascii=False,
    )


def _figure(figure: Figure) -> dict[str, Any]:
    target = figure.target
    return {
        "title": figure.title,
        "ours": _series(figure.ours),
        "target": None
        if target is None
        else {
            "limit": target.limit,
            "at_least": target.at_least,
            "of": target.of,
            "value": target.value(figure.ours),
            "met": target.met(figure.ours),
        },
        "beside": [
            {
                **_series(one.series),
                "ratio": (ratio := one.ratio(figure.ours)),
                "most": one.most,
                "met": None if one.most is None else ratio <= one.most,
            }
            for one in figure.beside
        ],
        "met": figure.met,
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        "name": series.name,
        "unit": series.unit,
        "median": series.median,
        "p10": series.quantile(0.1),
        "p90": series.quantile(0.9),
        "rounds": series.rounds,
    }


def machine() -> dict[str, Any]:
    """What the figures depend on, and how busy the machine is already."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
