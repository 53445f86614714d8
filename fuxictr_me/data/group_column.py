"""Check of the column by which gAUC, avgAUC, MRR and NDCG group rows."""

from fuxictr_me.config.training_options import GROUP_METRICS
from fuxictr_me.errors import UsageError


def check_group_column(group_id: object, features: dict[str, dict], params: dict) -> None:
    """Refuse to group by a field whose ids do not distinguish all groups.

    In a categorical field, all values that are rare or absent from the training split share one id. In a column of
    ``type: meta``, each value of any split has a separate id.

    Args:
        group_id: of the config.
        features: name -> {"type": ...}; absent names are left to other checks.
        params: settings of a run: ``metrics``, ``monitor``.

    Raises:
        UsageError: there is a metric by group, and ``group_id`` is not of type meta.
    """
    monitor = params.get("monitor") or []
    names = [*(params.get("metrics") or []), *(monitor if isinstance(monitor, dict) else [monitor])]
    metrics = [str(name) for name in names if str(name).startswith(GROUP_METRICS)]
    kind = features[group_id]["type"] if isinstance(group_id, str) and group_id in features else "meta"
    if metrics and kind != "meta":
        raise UsageError(
            f"group_id {group_id!r} is a {kind} field, in which rare and unseen values share one id, so {metrics[0]} "
            f"would mix their groups: add a column {{name: group, active: True, dtype: str, type: meta, "
            f"preprocess: copy_from({group_id})}} and set group_id: group"
        )
