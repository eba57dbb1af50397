"""The claims and their verdicts, laid out as HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from html import escape
from itertools import groupby

from latex2mathml.converter import convert

from pixelviz.claims import CLAIMS, VERDICTS, Claim, Verdict
from pixelviz.service.claims import Subject
from pixelviz.ui import charts

# A shape for each verdict, so that colour is not the only sign; 16x16.
ICONS = {
    "holds": '<path d="M3 8.5 6.5 12 13 4.5"/>',
    "holds where": '<circle cx="8" cy="8" r="5.5"/><path class="pv-fill" d="M8 2.5a5.5 5.5 0 0 1 0 11z"/>',
    "slip": '<path d="M2.5 13.5 12 4m-9.5 9.5 3-.7 8-8-2.3-2.3-8 8z"/>',
    "cannot work as printed": '<path d="M4 4l8 8M12 4l-8 8"/>',
    "not checked here": '<circle cx="8" cy="8" r="5.5" stroke-dasharray="2.5 2"/>',
}
# Plain names in labels and sentences, as they are typeset.
SYMBOLS = (
    (r"\bsqrt\((\w+)\)", r"√\1"),
    (r"\balpha_bar", "ᾱ"),
    (r"\bx_delta_hat\b", "x̂_δ"),
    (r"\bx_delta\b", "x_δ"),
    (r"\bgamma\b", "γ"),
    (r"(?<![^\W√])alpha\b", "α"),
    (r"\bbeta_", "β_"),
    (r"\bbeta\b", "β"),
    (r"\bGamma\b", "Γ"),
    (r"\beps_", "ε_"),
    (r"\bx0\b", "x_0"),
    (r"\bt_delta\b", "t_δ"),
    (r"\bsqrt\(", "√("),
)
_INDEX = re.compile(r"(?<!\w)(\w[\u0302\u0304]?)_(\{[^}]*\}|\w+)")
_POWER = re.compile(r"(?<=\w)\^(\([^()]*\)|\w+)")


def symbols(text: str) -> str:
    """A sentence as HTML: γ for gamma, indices lowered, powers raised."""
    for pattern, symbol in SYMBOLS:
        text = re.sub(pattern, symbol, text)
    text = _INDEX.sub(lambda m: f"{m[1]}<sub>{m[2].strip('{}')}</sub>", escape(text, quote=False))
    return _POWER.sub(lambda m: f"<sup>{m[1].removeprefix('(').removesuffix(')')}</sup>", text)


@cache
def statement(text: str) -> str:
    """Words with LaTeX between dollar signs, as HTML with MathML."""
    parts = text.split("$")
    return "".join(convert(part) if k % 2 else escape(part, quote=False) for k, part in enumerate(parts))


def badge(verdict: str) -> str:
    """A verdict's icon and its word."""
    kind = verdict.split()[0] if verdict != "holds where" else "where"
    icon = f'<svg viewBox="0 0 16 16" aria-hidden="true">{ICONS[verdict]}</svg>'
    return f'<span class="pv-verdict pv-verdict-{kind}">{icon}{verdict}</span>'


def card(claim: Claim, verdict: Verdict) -> str:
    """One claim, folded: its verdict and title; unfolded: statement, numbers, plot and where the code is."""
    rows = "".join(f"<div><dt>{symbols(number.label)}</dt><dd>{number.text}</dd></div>" for number in verdict.numbers)
    numbers = f'<dl class="pv-claim-numbers">{rows}</dl>' if rows else ""
    plot = charts.lines(verdict.plot, typeset=symbols, height=230) if verdict.plot else ""
    drawing = f'<div class="pv-chart" data-figure="{escape(plot)}"></div>' if plot else ""
    return (
        f'<details class="pv-claim" id="claim-{claim.id}" data-verdict="{verdict.verdict}"><summary>'
        f'{badge(verdict.verdict)}<span class="pv-claim-where">{escape(claim.where)}</span>'
        f'<span class="pv-claim-title">{escape(claim.title)}<span class="pv-claim-gist">{symbols(verdict.text)}</span>'
        "</span></summary>"
        f'<div class="pv-claim-body"><div><p class="pv-claim-statement">{statement(claim.statement)}</p>'
        f"<p>{symbols(verdict.text)}</p>{numbers}"
        f'<p class="pv-claim-code">Computed by <code>pixelviz/{escape(claim.code)}</code></p></div>{drawing}</div>'
        "</details>"
    )


def filters(verdicts: Mapping[str, Verdict]) -> str:
    """Buttons that show the claims of one verdict, with how many there are."""
    counts = Counter(verdict.verdict for verdict in verdicts.values())
    buttons = [f'<button type="button" data-show="" aria-pressed="true">All <b>{len(verdicts)}</b></button>']
    buttons += [
        f'<button type="button" data-show="{name}" aria-pressed="false">{badge(name)} <b>{counts[name]}</b></button>'
        for name in VERDICTS
        if counts[name]
    ]
    return (
        f'<div class="pv-claim-filters" role="group" aria-label="Show the claims whose verdict is">{"".join(buttons)}'
        '</div><button type="button" class="pv-claim-all" aria-expanded="false">Open all</button>'
    )


def page(subject: Subject, verdicts: Mapping[str, Verdict]) -> str:
    """All claims as HTML, in the paper's order under its sections."""
    parts = [f'<p class="pv-claim-settings"><b>Judged for</b> {symbols(subject.summary)}</p>']
    parts.append(f'<div class="pv-claim-bar">{filters(verdicts)}</div>')
    for section, claims in groupby(CLAIMS.values(), key=lambda claim: claim.section):
        cards = "".join(card(claim, verdicts[claim.id]) for claim in claims)
        parts.append(f'<section class="pv-claim-section"><h2>{escape(section)}</h2>{cards}</section>')
    return "".join(parts)
