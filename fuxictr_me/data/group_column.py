"""The column by which gAUC, avgAUC, MRR and NDCG group rows."""

from fuxictr_me.config.training_options import GROUP_METRICS
from fuxictr_me.errors import UsageError


def check_group_column(group_id: str | None, features: dict, params: dict) -> None:
    """Refuse to group by a field whose ids do not tell all groups apart.

    A categorical field gives one id to all values that are rare, or not in the training split. A column of
    ``type: meta`` has an id of its own for each value of all splits.

    Args:
        group_id: of the config.
        features: name -> {"type": ...}; a name that is not there is left to other checks.
        params: settings of a run: ``metrics``, ``monitor``.

    Raises:
        UsageError: a metric by group, and a ``group_id`` that is not of type meta.
    """
    monitor = params.get("monitor") or []
    names = [*(params.get("metrics") or []), *(monitor if isinstance(monitor, dict) else [monitor])]
    by_group = [str(name) for name in names if str(name).startswith(GROUP_METRICS)]
    kind = features.get(group_id, {}).get("type", "meta")
    if by_group and kind != "meta":
        raise UsageError(
            f"group_id {group_id!r} is a {kind} field, in which rare and unseen values share one id, so {by_group[0]} "
            f"would mix their groups: add a column {{name: group, active: True, dtype: str, type: meta, "
            f"preprocess: copy_from({group_id})}} and set group_id: group"
        )
