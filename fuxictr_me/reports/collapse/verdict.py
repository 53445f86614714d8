"""What the numbers of a collapse report say, in words, with the numbers behind them and what weakens them."""

from statistics import fmean, median

from fuxictr_me.reports.collapse.cautions import SMALL_D, cautions

# Conventions, not results; every sentence that rests on one gives the numbers too.
COLLAPSED = 0.5  # IA below half of an untrained table's and below half of min(K, D): most of what was there is gone
JUDGED_CEILING = 3  # fields with min(K, D) below it are not judged: between an IA of 1 and of 2 nothing collapses
SIGNIFICANT = 0.05
NUM_CAUSES = 3
STANDS_OUT = 0.9  # a cause lets through less than 90% of what partners let through on average: more than noise
NEAR_SPACES = 30  # degrees: mean principal angle between sets below which they span nearly the same space


def verdict(report):
    """Judge the numbers of ``measure``, of the layer that comes first.

    Args:
        report (dict): of ``fuxictr_me.reports.collapse.measure.measure``.

    Returns:
        dict: ``headline`` (str), ``findings`` and ``cautions`` (lists of sentences), ``collapsed`` and
        ``causes`` (fields by name, most clearly so first).
    """
    layer, interaction = report["layers"][0], report["interaction"]
    wholes = {field["field"]: field["parts"][-1] for field in layer["fields"]}
    judged = {name: part for name, part in wholes.items() if part["ceiling"] >= JUDGED_CEILING}
    collapsed = sorted((name for name, part in wholes.items() if is_collapsed(part)), key=lambda n: _depth(wholes[n]))
    pulled = _pulled(interaction, layer, collapsed) if interaction else {}
    causes = _causes(pulled, wholes) if interaction else _small_fields(wholes)
    findings = [_which(collapsed, judged, wholes, layer)] if judged else []
    if collapsed:
        findings.append(_why(causes, pulled, wholes, report))
    if interaction:
        findings.append(_law(interaction))
    if wholes:
        findings += [_used(wholes), _more_sets(layer, wholes, collapsed)]
    return {
        "headline": _headline(collapsed, judged, layer),
        "findings": findings,
        "cautions": cautions(report),
        "collapsed": collapsed,
        "causes": causes if collapsed else [],
    }


def is_collapsed(part):
    """Whether a table (a part of ``measure``) can be judged, and its IA is below half of both its references."""
    below = all(share is None or share < COLLAPSED for share in (part["ia_ratio"], part["ia_of_random"]))
    return part["ceiling"] >= JUDGED_CEILING and below


def _headline(collapsed, judged, layer):
    if not judged:
        return "No table is large enough to be judged."
    beside = f", the {layer['num_sets']} sets side by side" if layer["num_sets"] > 1 else ""
    return f"{len(collapsed)} of {_count(judged, 'field')} collapsed{beside}."


def _which(collapsed, judged, wholes, layer):
    text = (
        f"Mean IA {fmean(p['ia'] for p in wholes.values()):.2f}, {fmean(p['ia_ratio'] for p in wholes.values()):.0%} "
        "of min(K, D)"
    )
    if of_random := [p["ia_of_random"] for p in wholes.values() if p["ia_of_random"] is not None]:
        text += f" and {fmean(of_random):.0%} of what untrained tables of the same shape have"
    text += f", over {_count(wholes, 'field')}. A field counts as collapsed below {COLLAPSED:.0%} of both"
    if not collapsed:
        name = min(judged, key=lambda n: _depth(judged[n]))
        return f"{text}: none is. The lowest is {_with_numbers(name, judged[name])}."
    listed = [_with_numbers(name, judged[name]) for name in collapsed[:5]]
    more = f"; and {len(collapsed) - 5} more" if len(collapsed) > 5 else ""
    return f"{text}: {'; '.join(listed)}{more}."


def _why(causes, pulled, wholes, report):
    if report["interaction"] is None:
        named = ", ".join(f"{name} ({wholes[name]['ceiling']} directions at most)" for name in causes)
        return (
            f"Likely cause, by size alone: {named or 'no field is small enough'}. What fields see of one another "
            f"is not measured: {report['interaction_note']}."
        )
    if not causes:
        return "Likely cause: no partner stands out by its own IA and by what it lets through."
    named = ", ".join(f"{name} (its own IA {wholes[name]['ia']:.2f}, through it {pulled[name]:.2f})" for name in causes)
    doubt = "" if _law_holds(report["interaction"]) else " The test of the law, below, does not support it."
    return (
        f"Likely cause: the partners with a low IA through which least of the collapsed fields passes, {named}; "
        f"mean IA(E_i→j) over all partners is {fmean(pulled.values()):.2f}.{doubt}"
    )


def _law(interaction):
    name = "The interaction-collapse law (what field j sees of field i grows with IA of j)"
    tested = _tested(interaction)
    if not tested:
        return f"{name} cannot be tested here: IA(E_i→j) does not depend on j in this kind of interaction."
    r, p = fmean(r for r, _ in tested), max(p for _, p in tested)
    held = sum(p < SIGNIFICANT and r > 0 for r, p in tested)
    how = "shows" if held == len(tested) else "does not show" if not held else f"shows in {held} of {len(tested)} sets"
    largest, fields = "largest " if len(tested) > 1 else "", interaction["sets"][0]["law"]["num_fields"]
    numbers = f"partial correlation {round(r, 2) + 0.0:.2f}, {largest}permutation p = {p:.2g}, {fields} fields"
    return f"{name} {how} in this model: {numbers}."


def _tested(interaction):
    """(partial correlation with IA of the partner, p) of each set where there is one."""
    laws = [one["law"]["partner"] for one in interaction["sets"]]
    return [(law["partial_pearson"], law["p_value"]) for law in laws if law["p_value"] is not None]


def _law_holds(interaction):
    return any(p < SIGNIFICANT and r > 0 for r, p in _tested(interaction))


def _used(wholes):
    rank = fmean(p["effective_rank"] for p in wholes.values())
    share = fmean(p["effective_rank"] / p["dim"] for p in wholes.values())
    possible = fmean(p["effective_rank"] / max(1, p["ceiling"]) for p in wholes.values())
    dims = sorted({p["dim"] for p in wholes.values()})
    K = f"{dims[0]}" if len(dims) == 1 else f"{dims[0]} to {dims[-1]}"
    return (
        f"Dimensions in use: an effective rank of {rank:.1f} on average, {share:.0%} of K = {K} and {possible:.0%} of "
        "min(K, D)."
    )


def _more_sets(layer, wholes, collapsed):
    test = "only runs at equal embedding parameters, both tuned, over several seeds, can tell"
    if layer["num_sets"] == 1:
        if not collapsed:
            return f"Would more sets help? Nothing in these tables asks for them; {test}."
        return (
            "Would more sets help? Collapse is what the paper mends with them, with gains on Criteo and Avazu (tens of "
            f"millions of rows); these numbers do not show that it limits this model: {test}."
        )
    one = fmean(p["ia_ratio"] for field in layer["fields"] for p in field["parts"][:-1])
    all_sets = fmean(p["ia_ratio"] for p in wholes.values())
    text = f"The sets: alone each has {one:.0%} of its min(K, D), side by side {all_sets:.0%}"
    free = [f["field"] for f in layer["fields"] if f["num_ids"] >= SMALL_D * f["parts"][-1]["dim"]]
    angles = [layer["between_sets"]["fields"][name]["mean_angle"] for name in free]
    if angles := [angle for angle in angles if angle is not None]:
        near = "nearly the same space" if fmean(angles) < NEAR_SPACES else "different spaces"
        text += f"; the mean principal angle between two of them is {fmean(angles):.0f}°, so they span {near}"
        text += f" ({_count(angles, 'field')} of {SMALL_D} K ids or more)"
    return f"{text}. Whether yet more sets would help, {test}."


def _pulled(interaction, layer, collapsed):
    """Partner j -> mean over sets and collapsed fields i of IA(E_i→j)."""
    names, known = interaction["table_of"], {field["field"] for field in layer["fields"]}
    found = {}
    for one in interaction["sets"]:
        for i, row in enumerate(one["sub_ia"]):
            for j, value in enumerate(row):
                if i != j and names[i] in collapsed and names[j] in known and value is not None:
                    found.setdefault(names[j], []).append(value)
    return {name: fmean(values) for name, values in found.items()}


def _causes(pulled, wholes):
    if not pulled:
        return []
    mean, typical = fmean(pulled.values()), median(wholes[name]["ia"] for name in pulled)
    low = [name for name, value in pulled.items() if value < STANDS_OUT * mean and wholes[name]["ia"] < typical]
    return sorted(low, key=pulled.get)[:NUM_CAUSES]


def _small_fields(wholes):
    small = [name for name, part in wholes.items() if part["ceiling"] <= part["dim"] / 2]
    return sorted(small, key=lambda name: wholes[name]["ia"])[:NUM_CAUSES]


def _depth(part):
    return part["ia_ratio"] if part["ia_of_random"] is None else part["ia_of_random"]


def _with_numbers(name, part):
    random = "" if part["ia_random"] is None else f", random {part['ia_random']:.2f}"
    return f"{name} (IA {part['ia']:.2f}{random}, min(K, D) {part['ceiling']})"


def _count(things, noun):
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
