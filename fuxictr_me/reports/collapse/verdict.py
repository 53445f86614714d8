"""The verdict of a collapse report: findings in sentences, with the numbers behind them, and limitations."""

from statistics import fmean, median

from fuxictr_me.formatting import pluralize
from fuxictr_me.reports.collapse.cautions import SMALL_D, list_cautions
from fuxictr_me.reports.collapse.depth import describe_depth

# These thresholds are conventions, not results. Every sentence that uses one gives the numbers too.
COLLAPSED = 0.5  # of an untrained table's IA and of min(K, D)
JUDGED_CEILING = 3  # fields with a lower min(K, D) are not judged: an IA between 1 and 2 leaves no room for collapse
SIGNIFICANT = 0.05
NUM_CAUSES = 3
STANDS_OUT = 0.9  # IA(E_i→j) of a cause j is below 90% of the mean over partners
NEAR_SPACES = 30  # degrees: mean principal angle between sets below which they span nearly the same space


def judge(report: dict) -> dict:
    """Judge the numbers of the first layer of ``measure_collapse``.

    Returns:
        ``headline`` (str), ``findings`` and ``cautions`` (lists of sentences), ``collapsed`` and ``causes`` (names of
        fields, the clearest first).
    """
    layer, interaction = report["layers"][0], report["interaction"]
    wholes = {field["field"]: field["parts"][-1] for field in layer["fields"]}
    judged = {name: part for name, part in wholes.items() if part["ceiling"] >= JUDGED_CEILING}
    collapsed = [name for name, part in wholes.items() if is_collapsed(part)]
    collapsed.sort(key=lambda name: _relative_abundance(wholes[name]))
    sub_abundance = _mean_sub_abundance(interaction, layer, collapsed) if interaction else {}
    causes = _find_causes(sub_abundance, wholes) if interaction else _find_small_fields(wholes)
    findings = [_describe_collapsed(collapsed, judged, wholes)] if judged else []
    if collapsed:
        findings.append(_describe_causes(causes, sub_abundance, wholes, report))
    if interaction:
        findings.append(_describe_law(interaction))
    if wholes:
        findings += [_describe_dimensions(wholes), _describe_sets(layer, wholes, collapsed)]
    if report.get("depth"):
        findings.append(describe_depth(report["depth"]))
    return {
        "headline": _headline(collapsed, judged, layer),
        "findings": findings,
        "cautions": list_cautions(report),
        "collapsed": collapsed,
        "causes": causes if collapsed else [],
    }


def is_collapsed(part: dict) -> bool:
    """Return whether a part of a field is large enough to be judged, and its IA is below half of both references."""
    below = all(share is None or share < COLLAPSED for share in (part["ia_ratio"], part["ia_of_random"]))
    return part["ceiling"] >= JUDGED_CEILING and below


def _headline(collapsed: list, judged: dict, layer: dict) -> str:
    if not judged:
        return "No table is large enough to be judged."
    beside = f" (the {layer['num_sets']} sets side by side)" if layer["num_sets"] > 1 else ""
    return f"{len(collapsed)} of {pluralize(len(judged), 'field')} collapsed{beside}."


def _describe_collapsed(collapsed: list, judged: dict, wholes: dict) -> str:
    text = (
        f"Mean IA {fmean(p['ia'] for p in wholes.values()):.2f}, {fmean(p['ia_ratio'] for p in wholes.values()):.0%} "
        "of min(K, D)"
    )
    if of_random := [p["ia_of_random"] for p in wholes.values() if p["ia_of_random"] is not None]:
        text += f" and {fmean(of_random):.0%} of the IA of untrained tables of the same shape"
    text += f", over {pluralize(len(wholes), 'field')}. A field counts as collapsed below {COLLAPSED:.0%} of both"
    if not collapsed:
        name = min(judged, key=lambda n: _relative_abundance(judged[n]))
        return f"{text}: none is. The lowest is {_add_numbers(name, judged[name])}."
    listed = [_add_numbers(name, judged[name]) for name in collapsed[:5]]
    more = f"; and {len(collapsed) - 5} more" if len(collapsed) > 5 else ""
    return f"{text}: {'; '.join(listed)}{more}."


def _describe_causes(causes: list, sub_abundance: dict, wholes: dict, report: dict) -> str:
    if report["interaction"] is None:
        named = ", ".join(f"{name} ({wholes[name]['ceiling']} directions at most)" for name in causes)
        return (
            f"Likely cause, judged by size alone: {named or 'no field is small enough'}. IA(E_i→j) was not measured: "
            f"{report['interaction_note']}."
        )
    if not causes:
        return "Likely cause: none found. No partner stands out by both a low IA and a low IA(E_i→j)."
    named = ", ".join(
        f"{name} (IA {wholes[name]['ia']:.2f}, mean IA(E_i→j) {sub_abundance[name]:.2f})" for name in causes
    )
    doubt = "" if _is_law_supported(report["interaction"]) else " The test of the law, below, does not support it."
    return (
        f"Likely cause: interaction with partners j that have a low IA themselves, and the lowest IA(E_i→j) of the "
        f"collapsed fields i: {named}. The mean over all partners is {fmean(sub_abundance.values()):.2f}.{doubt}"
    )


def _describe_law(interaction: dict) -> str:
    name = "The interaction-collapse law (IA(E_i→j) grows with the IA of field j)"
    tested = _tested_laws(interaction)
    if not tested:
        return f"{name} cannot be tested here: IA(E_i→j) does not depend on j in this kind of interaction."
    r, p = fmean(r for r, _ in tested), max(p for _, p in tested)
    held = sum(p < SIGNIFICANT and r > 0 for r, p in tested)
    how = (
        "is supported"
        if held == len(tested)
        else "is not supported"
        if not held
        else f"is supported in {held} of {len(tested)} sets"
    )
    largest, fields = "largest " if len(tested) > 1 else "", interaction["sets"][0]["law"]["num_fields"]
    numbers = f"partial correlation {round(r, 2) + 0.0:.2f}, {largest}permutation p = {p:.2g}, {fields} fields"
    return f"{name} {how} in this model: {numbers}."


def _tested_laws(interaction: dict) -> list[tuple[float, float]]:
    """Return the partial correlation with IA of the partner, and its p, of each set that was tested."""
    laws = [one["law"]["partner"] for one in interaction["sets"]]
    return [(law["partial_pearson"], law["p_value"]) for law in laws if law["p_value"] is not None]


def _is_law_supported(interaction: dict) -> bool:
    return any(p < SIGNIFICANT and r > 0 for r, p in _tested_laws(interaction))


def _describe_dimensions(wholes: dict) -> str:
    rank = fmean(p["effective_rank"] for p in wholes.values())
    share = fmean(p["effective_rank"] / p["dim"] for p in wholes.values())
    possible = fmean(p["effective_rank"] / max(1, p["ceiling"]) for p in wholes.values())
    dims = sorted({p["dim"] for p in wholes.values()})
    K = f"{dims[0]}" if len(dims) == 1 else f"{dims[0]} to {dims[-1]}"
    return (
        f"Dimensions in use: an effective rank of {rank:.1f} on average, {share:.0%} of K = {K} and {possible:.0%} of "
        "min(K, D)."
    )


def _describe_sets(layer: dict, wholes: dict, collapsed: list) -> str:
    test = "only a comparison at equal embedding parameters, both tuned, over several seeds, can tell"
    if layer["num_sets"] == 1:
        if not collapsed:
            return f"Would more sets help? These tables give no reason for them: {test}."
        return (
            "Would more sets help? The paper uses them against collapse, with gains on Criteo and Avazu (tens of "
            f"millions of rows). These numbers do not show that collapse limits this model: {test}."
        )
    one = fmean(p["ia_ratio"] for field in layer["fields"] for p in field["parts"][:-1])
    all_sets = fmean(p["ia_ratio"] for p in wholes.values())
    text = (
        f"IA as a share of min(K, D): {one:.0%} for a single set on average, {all_sets:.0%} for the sets side by side"
    )
    free = [f["field"] for f in layer["fields"] if f["num_ids"] >= SMALL_D * f["parts"][-1]["dim"]]
    angles = [layer["between_sets"]["fields"][name]["mean_angle"] for name in free]
    if angles := [angle for angle in angles if angle is not None]:
        near = "nearly the same space" if fmean(angles) < NEAR_SPACES else "different spaces"
        text += f"; the mean principal angle between two sets is {fmean(angles):.0f}°, so they span {near}"
        text += f" ({pluralize(len(angles), 'field')} with {SMALL_D}·K ids or more)"
    return f"{text}. Would more sets help? {test[0].upper()}{test[1:]}."


def _mean_sub_abundance(interaction: dict, layer: dict, collapsed: list) -> dict[str, float]:
    """Return partner j -> mean of IA(E_i→j) over the sets and the collapsed fields i."""
    names, known = interaction["table_of"], {field["field"] for field in layer["fields"]}
    values: dict[str, list[float]] = {}
    for one in interaction["sets"]:
        for i, row in enumerate(one["sub_ia"]):
            for j, value in enumerate(row):
                if i != j and names[i] in collapsed and names[j] in known and value is not None:
                    values.setdefault(names[j], []).append(value)
    return {name: fmean(of_partner) for name, of_partner in values.items()}


def _find_causes(sub_abundance: dict[str, float], wholes: dict) -> list[str]:
    if not sub_abundance:
        return []
    mean, typical = fmean(sub_abundance.values()), median(wholes[name]["ia"] for name in sub_abundance)
    low = [name for name, value in sub_abundance.items() if value < STANDS_OUT * mean and wholes[name]["ia"] < typical]
    return sorted(low, key=sub_abundance.__getitem__)[:NUM_CAUSES]


def _find_small_fields(wholes: dict) -> list[str]:
    small = [name for name, part in wholes.items() if part["ceiling"] <= part["dim"] / 2]
    return sorted(small, key=lambda name: wholes[name]["ia"])[:NUM_CAUSES]


def _relative_abundance(part: dict) -> float:
    return part["ia_ratio"] if part["ia_of_random"] is None else part["ia_of_random"]


def _add_numbers(name: str, part: dict) -> str:
    random = "" if part["ia_random"] is None else f", random {part['ia_random']:.2f}"
    return f"{name} (IA {part['ia']:.2f}{random}, min(K, D) {part['ceiling']})"
