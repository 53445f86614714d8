"""The limitations of a collapse report's numbers, in sentences."""

from fuxictr_me.formatting import join_names

SMALL_D = 2  # D below 2 K: even a random table is far from IA = K (about 0.55 K at D = 2 K, 0.42 K at D = K)
AS_INITIALISED = (0.05, 0.2)  # IA within 5% of random and norm within 20% of the initial one: nothing was learned
UNSEEN = 0.1  # share of ids that never occur in training, above which they influence the spectrum
LAW_FIELDS = 8  # with fewer fields the permutation test has little power


def list_cautions(report: dict) -> list[str]:
    """Return sentences about what limits the numbers of the first layer of ``measure_collapse``."""
    layer = report["layers"][0]
    wholes = {field["field"]: field["parts"][-1] for field in layer["fields"]}
    fields = {field["field"]: field for field in layer["fields"]}
    few = [name for name, field in fields.items() if field["num_ids"] < SMALL_D * wholes[name]["dim"]]
    initial = [name for name, part in wholes.items() if _is_as_initialised(part)]
    unseen = {name: field["unseen_ids"] for name, field in fields.items() if _has_many_unseen(field)}
    cautions = []
    if few:
        names = join_names(few)
        cautions.append(
            f"Few ids (D < {SMALL_D}·K): {names}. Compare the IA of these fields with random IA, not with K."
        )
    if initial:
        names = join_names(initial)
        cautions.append(f"IA and size are as at initialisation: {names}. These spectra were not learned.")
    if unseen:
        worst = max(unseen, key=unseen.__getitem__)
        cautions.append(
            f"Over {UNSEEN:.0%} of the ids never occur in training: {join_names(unseen)} (up to {unseen[worst]:.0%}, "
            f"{worst}). Such rows keep their initial values or shrink by weight decay: see also the IA by frequency."
        )
    if not any("unseen_ids" in field for field in fields.values()):
        cautions.append("It is not known how many ids never occur in training: use --data to count them.")
    if (interaction := report["interaction"]) and interaction["sets"][0]["law"]["num_fields"] < LAW_FIELDS:
        cautions.append(f"Fewer than {LAW_FIELDS} fields: the test of the interaction-collapse law has little power.")
    if pretrained := [name for name, field in fields.items() if field["pretrained"]]:
        cautions.append(f"Pretrained fields have no random reference: {join_names(pretrained)}.")
    if note := report.get("depth_note"):
        cautions.append(f"Rank along the depth was not measured: {note}.")
    cautions += [f"Left out: {skipped['field']}, {skipped['why']}." for skipped in report["skipped"]]
    return [*cautions, "This is one model with one seed, and the thresholds are conventions."]


def _is_as_initialised(part: dict) -> bool:
    if not part["ia_of_random"] or not part["rms_initial"]:
        return False
    ia, size = AS_INITIALISED
    return abs(part["ia_of_random"] - 1) < ia and abs(part["rms"] / part["rms_initial"] - 1) < size


def _has_many_unseen(field: dict) -> bool:
    """Return whether many ids are unseen, and more than the one out-of-vocabulary row that most fields have."""
    share = field.get("unseen_ids") or 0
    return share > UNSEEN and round(share * field["num_ids"]) > 1
