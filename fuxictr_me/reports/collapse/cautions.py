"""Where the numbers of a collapse report are weak, in words."""

SMALL_D = 2  # D below 2 K: even a random table is far from IA = K (about 0.55 K at D = 2 K, 0.42 K at D = K)
AS_STARTED = (0.05, 0.2)  # IA within 5% of random and size within 20% of the initial: the spectrum is the initialiser's
UNSEEN = 0.1  # share of ids that training never met, above which they weigh in the spectrum
LAW_FIELDS = 8  # with fewer fields the permutation test has little power


def cautions(report):
    """What to be careful about, of the layer that comes first.

    Args:
        report (dict): of ``fuxictr_me.reports.collapse.measure.measure``.

    Returns:
        list of str: sentences.
    """
    layer = report["layers"][0]
    wholes = {field["field"]: field["parts"][-1] for field in layer["fields"]}
    fields = {field["field"]: field for field in layer["fields"]}
    few = [name for name, field in fields.items() if field["num_ids"] < SMALL_D * wholes[name]["dim"]]
    started = [name for name, part in wholes.items() if _as_started(part)]
    unseen = {n: f["unseen_ids"] for n, f in fields.items() if _has_unseen(f)}
    found = []
    if few:
        found.append(f"Few ids (D < {SMALL_D} K): {_names(few)}. Compare these with random, not with K.")
    if started:
        found.append(
            f"IA and size as at initialisation: {_names(started)}. Their spectrum is the initialiser's, not learned."
        )
    if unseen:
        worst = max(unseen, key=unseen.get)
        found.append(
            f"Over {UNSEEN:.0%} of the ids never occur in training: {_names(unseen)} (up to {unseen[worst]:.0%}, "
            f"{worst}). Such rows stay as they started or shrink by weight decay; read the IA by frequency beside."
        )
    if not any("unseen_ids" in field for field in fields.values()):
        found.append("How many ids training never updated is not known: --data counts them.")
    if (interaction := report["interaction"]) and interaction["sets"][0]["law"]["num_fields"] < LAW_FIELDS:
        found.append(f"Fewer than {LAW_FIELDS} fields: the test of the law has little power.")
    if pretrained := [name for name, field in fields.items() if field["pretrained"]]:
        found.append(f"Pretrained, so without a random reference: {_names(pretrained)}.")
    for skip in report["skipped"]:
        found.append(f"Left out: {skip['field']}, {skip['why']}.")
    return [*found, "One model of one seed; the thresholds are conventions."]


def _as_started(part):
    if not part["ia_of_random"] or not part["rms_initial"]:
        return False
    ia, size = AS_STARTED
    return abs(part["ia_of_random"] - 1) < ia and abs(part["rms"] / part["rms_initial"] - 1) < size


def _has_unseen(field):
    """More than the one out-of-vocabulary row that most fields have."""
    share = field.get("unseen_ids") or 0
    return share > UNSEEN and round(share * field["num_ids"]) > 1


def _names(names):
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
