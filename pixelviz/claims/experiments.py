"""Section 4: what Tables 1 and 2 say, and what the text says of them."""

from __future__ import annotations

from itertools import pairwise

from pixelviz.claims.base import HOLDS, SLIP, WHERE, Context, Finding, Number, Register, Verdict
from pixelviz.measure import report
from pixelviz.measure.benchmark import BenchmarkError, read_results
from pixelviz.paper import PARTS, TABLES, PaperRow
from pixelviz.samplers import SAMPLERS

register = Register("4 Experiments: Tables 1 and 2")


def _ours(rows: tuple[PaperRow, ...]) -> PaperRow:
    return rows[-1]


def _rivals(rows: tuple[PaperRow, ...], *models: str) -> list[PaperRow]:
    return [row for row in rows[:-1] if not models or row.model in models]


def _compared(text: str, rivals: dict[str, list[PaperRow]], good, numbers) -> Verdict:
    """HOLDS where `good(ours, rival)` is true of every rival of both tables, WHERE of some, SLIP of none."""
    pairs = [(data, row) for data, rows in rivals.items() for row in rows]
    wins = [(data, row) for data, row in pairs if good(_ours(TABLES[data]), row)]
    won = {f"{row.model} {row.steps}" for _, row in wins}
    losses = dict.fromkeys(
        name + f" on {data}" * (name in won)  # where it holds on the other data set
        for data, row in pairs
        if (data, row) not in wins
        for name in (f"{row.model} {row.steps}",)
    )
    found = Finding(*numbers, Number("rows compared", len(pairs)), Number("rows where it is so", len(wins)))
    verdict = HOLDS if not losses else WHERE if wins else SLIP
    return found(verdict, f"{text} Not against {', '.join(losses)}." if losses else text)


@register(
    "four-times",
    "Abstract, Section 1",
    "At least four times faster",
    "“A generative model that is at least 4 times faster than conventional approaches.”",
    formula=4.0,
)
def four_times(context: Context, factor) -> Verdict:
    """The tables' seconds of every rival, in units of ours."""
    ratios = [
        Number(f"seconds of {row.model} {row.steps} over ours, {data}", row.seconds / _ours(rows).seconds)
        for data, rows in TABLES.items()
        for row in _rivals(rows)
        if (row.model, row.steps) in (("DDPM", 1000), ("DDIM", 100), ("DPM-Solver", 34))
    ]
    return _compared(
        "By the paper's own seconds.",
        {data: _rivals(rows) for data, rows in TABLES.items()},
        lambda ours, row: row.seconds >= factor * ours.seconds,
        tuple(ratios),
    )


@register(
    "four-times-ddpm",
    "Section 4",
    "Four times faster than DDPM",
    "“Its execution time is at least 4 times lesser than that of vanilla DDPM (our 0.3 second against their 1.23).”",
    formula=(4.0, 1.23),
)
def four_times_ddpm(context: Context, quoted) -> Verdict:
    """The tables' seconds of DDPM over ours, and the text's beside Table 1's."""
    factor, seconds = quoted
    ratios = {data: _rivals(rows, "DDPM")[0].seconds / _ours(rows).seconds for data, rows in TABLES.items()}
    table = _rivals(TABLES["CIFAR-10"], "DDPM")[0].seconds
    found = Finding(
        *(Number(f"seconds of DDPM over ours, {data}", ratio) for data, ratio in ratios.items()),
        Number("seconds of DDPM in the text, CIFAR-10", seconds),
        Number("seconds of DDPM in Table 1", table),
    )
    if min(ratios.values()) < factor:
        return found.slip("Not by the tables' seconds.")
    differs = "" if seconds == table else " The text and Table 1 give DDPM's seconds differently."
    return found.holds(f"By the tables' seconds, for both data sets.{differs}")


@register(
    "ddim-time",
    "Section 4",
    "As fast as DDIM",
    "Its time is “comparable to DDIM even when more time-steps are used (our 500 vs their 100 steps)”.",
    formula=1.1,
)
def ddim_time(context: Context, comparable) -> Verdict:
    """The tables' seconds of ours and of DDIM with 100 steps."""
    rivals = {data: [r for r in _rivals(rows, "DDIM") if r.steps == 100] for data, rows in TABLES.items()}
    ratios = tuple(
        Number(f"ours over DDIM 100, {data}", _ours(TABLES[data]).seconds / row[0].seconds)
        for data, row in rivals.items()
    )
    return _compared(
        "Against DDIM with 100 steps.", rivals, lambda ours, row: ours.seconds <= comparable * row.seconds, ratios
    )


@register(
    "ddim-fid",
    "Section 4",
    "Better than DDIM and DPM-Solver",
    "“Our models produce lower FID scores in comparison to DDIM models with 1000 steps … Same holds true for DPM "
    "Solver based outputs.”",
    formula=lambda ours, row: ours.fid < row.fid,
)
def ddim_fid(context: Context, better) -> Verdict:
    """The tables' FID of ours beside every row of DDIM and DPM-Solver."""
    rivals = {data: _rivals(rows, "DDIM", "DPM-Solver") for data, rows in TABLES.items()}
    best = tuple(
        Number(f"least FID of these, {data} (ours {_ours(TABLES[data]).fid:g})", min(row.fid for row in rows))
        for data, rows in rivals.items()
    )
    return _compared("By the tables' FID, against every row of both.", rivals, better, best)


@register(
    "competitive",
    "Sections 4, 6",
    "Quality is kept",
    "“The image quality of our model is competitive”; the time-steps shrink “without compromising image quality”.",
    formula=lambda ours, row: ours.fid <= row.fid,
)
def competitive(context: Context, better) -> Verdict:
    """The tables' FID of ours beside every rival's."""
    numbers = tuple(Number(f"FID of ours, {data}", _ours(rows).fid) for data, rows in TABLES.items())
    rivals = {data: _rivals(rows) for data, rows in TABLES.items()}
    return _compared("By the tables' FID.", rivals, better, numbers)


@register(
    "steps-and-quality",
    "Section 4",
    "More steps, better images",
    "“Generation quality is proportional to the number of time-steps”, evident from DDIM and DPM-Solver.",
    formula=TABLES,
)
def steps_and_quality(context: Context, tables) -> Verdict:
    """Whether FID falls with each added step, and whether FID times steps stays as it is."""
    falls, products = [], []
    for rows in tables.values():
        for model in ("DDIM", "DPM-Solver"):
            chain = sorted(_rivals(rows, model), key=lambda row: row.steps)
            falls += [a.fid > b.fid for a, b in pairwise(chain)]
            products.append(chain[-1].steps * chain[-1].fid / (chain[0].steps * chain[0].fid))
    found = Finding(
        Number("steps up, FID down: pairs of rows", sum(falls)),
        Number("of pairs", len(falls)),
        Number("FID times steps, most over fewest steps (1 if proportional): nearest to 1", min(products)),
        Number("the same, furthest", max(products)),
    )
    if not all(falls):
        return found(WHERE if any(falls) else SLIP, "Not for all of these rows.")
    if max(products) < 2 and min(products) > 0.5:
        return found.holds("FID falls with every added step, in inverse proportion.")
    return found.where(
        "FID falls with every added step, but nowhere in proportion: from the fewest steps to the most, FID times "
        f"steps, which proportion would leave as it is, grows {min(products):.0f} to {max(products):.0f} times."
    )


@register(
    "step-saving",
    "Section 3.2.3",
    "Half to three quarters fewer steps",
    "The forward trajectory is shortened, “reducing the diffusion process steps by 50–75 %”.",
    formula=(0.50, 0.75),
)
def step_saving(context: Context, printed) -> Verdict:
    """The share of DDPM's steps that the tables' rows save."""
    saved = sorted(1 - _ours(rows).steps / _rivals(rows, "DDPM")[0].steps for rows in TABLES.values())
    found = Finding(
        *(
            Number(f"{word} saving by the tables", s, percent=True)
            for word, s in zip(("least", "largest"), saved, strict=True)
        )
    )
    if tuple(saved) == printed:
        return found.holds("By the tables' steps.")
    return found.slip(f"By the tables it is {100 * saved[0]:.0f} to {100 * saved[1]:.0f} %.")


@register(
    "sizes",
    "Section 4",
    "Parameters add up",
    "30.3 + 41.2 = 71.5 million for CIFAR-10, 61.3 + 84.2 = 145.5 million for CelebA: a “slightly increased parameter "
    "complexity”.",
    formula=PARTS,
)
def sizes(context: Context, parts) -> Verdict:
    """The sums of the parts beside the tables' totals and DDPM's."""
    totals = {data: sum(parts[data]) for data in TABLES}
    times = {data: totals[data] / _rivals(rows, "DDPM")[0].parameters for data, rows in TABLES.items()}
    found = Finding(
        *(
            Number(f"{what}, {data}{unit}", values[data])
            for data in TABLES
            for what, unit, values in (("sum of the two parts", ", millions", totals), ("times DDPM's", "", times))
        )
    )
    if any(abs(totals[data] - _ours(rows).parameters) >= 0.05 for data, rows in TABLES.items()):
        return found.slip("The parts do not add up to the tables' totals.")
    most = max(times.values())
    if most < 1.1:
        return found.holds("The sums are right, and the increase is slight.")
    return found.where(f"The sums are right. But it is up to {most:.1f} times DDPM's, not slightly more.")


@register(
    "seconds-per-evaluation",
    "Section 4, Tables 1, 2, App. C",
    "The seconds compare like with like",
    "“The same GPU was used to compare execution time”; DDIM and DPM-Solver run DDPM's own network, once a step.",
    formula=TABLES,
)
def seconds_per_evaluation(context: Context, tables) -> Verdict:
    """Seconds of one evaluation by each row: of one network on one GPU they should not differ."""
    numbers, even = [], []
    for data, rows in tables.items():
        each = {(r.model, r.steps): r.seconds / r.steps for r in _rivals(rows, "DDPM", "DDIM", "DPM-Solver")}
        even.append(max(each.values()) <= 2 * min(each.values()))
        for model in ("DDPM", "DDIM", "DPM-Solver"):
            own = [1000 * one for (name, _), one in each.items() if name == model]
            numbers += [
                Number(f"ms per evaluation, {model}, {data}: {word}", pick(own))
                for word, pick in (("least", min), ("most", max))[: len(own)]
            ]
    slow = 100 * _rivals(tables["CelebA"], "DDPM")[0].seconds / 1000
    found = Finding(*numbers, Number("seconds of DDIM with 100 steps at DDPM's price, CelebA", slow))
    if all(even):
        return found.holds("One evaluation of one network takes as long in every row, to a factor 2.")
    ours = _ours(tables["CelebA"]).seconds
    return found(
        WHERE if any(even) else SLIP,
        "One network of one size on one GPU, and yet an evaluation differs by more than a factor 2 between rows of a "
        f"table. At DDPM's price DDIM with 100 steps would take {slow:.2f} s on CelebA, "
        f"{'less' if slow < ours else 'not less'} than the {ours:g} s of the paper's model.",
    )


@register(
    "ten-times",
    "Section 6",
    "Up to ten times faster",
    "The reverse process is accelerated “by up to 10 times compared to existing models”.",
    formula=10.0,
)
def ten_times(context: Context, factor) -> Verdict:
    """The largest and the least of the tables' ratios of seconds."""
    ratios = {
        f"{row.model} {row.steps}, {data}": row.seconds / _ours(rows).seconds
        for data, rows in TABLES.items()
        for row in _rivals(rows)
    }
    most, least = max(ratios, key=ratios.get), min(ratios, key=ratios.get)
    found = Finding(
        Number(f"largest ratio of seconds: {most}", ratios[most]),
        Number(f"least: {least}", ratios[least]),
        Number(f"rows with at least {factor:g}", sum(ratio >= factor for ratio in ratios.values())),
        Number("rows in all", len(ratios)),
    )
    if ratios[most] < factor:
        return found.slip("No row of either table is that much slower.")
    if ratios[most] < 1.1 * factor:
        return found.holds("The slowest row is that much slower.")
    reached = ", ".join(name for name, ratio in ratios.items() if ratio >= factor)
    return found.where(
        f"“Up to” is {ratios[most]:.0f} by the tables, and {ratios[least]:.2f} at the other end. {factor:g} times and "
        f"more: {reached}."
    )


@register(
    "sde-steps",
    "Section 4",
    "The SDE needs orders of magnitude more steps",
    "“The SDE based model effectively requires orders of magnitude more steps as a result of correction required due "
    "to MCMC subsampling.”",
    formula=100.0,  # two orders, the fewest that are several
)
def sde_steps(context: Context, orders) -> Verdict:
    """The tables' steps of the SDE, its corrector's counted, over ours."""
    pairs = {data: (_rivals(rows, "SDE")[0], _ours(rows)) for data, rows in TABLES.items()}
    ratios = [2 * sde.steps / ours.steps for sde, ours in pairs.values()]  # predictor and corrector: two a step
    found = Finding(
        *(Number(f"steps of the SDE in the table, {data} (ours {o.steps})", s.steps) for data, (s, o) in pairs.items()),
        *(Number(f"with its corrector, times ours, {data}", r) for data, r in zip(pairs, ratios, strict=True)),
        *(Number(f"its seconds over ours, {data}", s.seconds / o.seconds) for data, (s, o) in pairs.items()),
    )
    good = [ratio >= orders for ratio in ratios]
    if all(good):
        return found.holds("By the tables' steps, the corrector's counted.")
    return found(
        WHERE if any(good) else SLIP,
        "By the tables it has 1000 steps, as many as DDPM, and 2000 with the corrector's: "
        f"{min(ratios):g} and {max(ratios):g} times the paper's. Orders of magnitude lie in the seconds alone.",
    )


def _measured_pairs() -> dict[str, tuple[float, float]]:
    """FID of ours, the best of its rows, and of the predictor-corrector, in each bundled benchmark that has both."""
    found = {}
    for path in sorted(report.RESULTS.glob("*.json")):
        try:
            rows = read_results(path)["rows"]
        except BenchmarkError:  # of an older version, say
            continue
        ours, sde = ([r["fid"] for r in rows if good(r["method"])] for good in (_is_ours, "sde-pc".__eq__))
        if ours and sde:
            found[f"{path.stem}, measured here"] = min(ours), min(sde)
    return found


def _is_ours(method: str) -> bool:
    return method in SAMPLERS and SAMPLERS[method].ours


@register(
    "mcmc",
    "Abstract, Section 4",
    "No correction by MCMC is needed",
    "The model “eliminates the need for MCMC-based sub-sampling correction for safeguarding and improving image "
    "quality”.",
    formula=lambda ours, corrected: ours <= corrected,
)
def mcmc(context: Context, better) -> Verdict:
    """FID without a corrector and with one: the tables', and those measured here."""
    pairs = {f"{data}, paper": (_ours(rows).fid, _rivals(rows, "SDE")[0].fid) for data, rows in TABLES.items()}
    pairs |= _measured_pairs()
    found = Finding(
        *(
            Number(f"FID of {whose}, {where}", fid)
            for where, pair in pairs.items()
            for whose, fid in zip(("ours", "the predictor-corrector"), pair, strict=True)
        )
    )
    lost = [f"{where} ({pair[0]:.3g} for {pair[1]:.3g})" for where, pair in pairs.items() if not better(*pair)]
    if not lost:
        return found.holds("Without a corrector the FID is at least as good everywhere.")
    return found(
        WHERE if len(lost) < len(pairs) else SLIP,
        f"It does without one, and is faster for it. But the corrected sampler's images have the better FID: "
        f"{'; '.join(lost)}.",
    )
