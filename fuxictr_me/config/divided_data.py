"""Check the settings that divide the rows of ``train_data`` into training, validation and test rows."""

from fuxictr_me.config.splits import is_divided
from fuxictr_me.config.value_kinds import Kind
from fuxictr_me.errors import UsageError


class SplitSize(Kind):
    """A share of the rows, from 0 to below 1, or a whole number of rows."""

    def __init__(self) -> None:
        rows = {"type": "integer", "minimum": 0}
        share = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
        super().__init__("a share of the rows below 1, or a whole number of rows", {"anyOf": [share, rows]})

    def accepts(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return 0 <= value < 1 or (isinstance(value, int) and value >= 1)


def check_division(params: dict, is_built: bool) -> None:
    """Check that ``valid_size``, ``test_size`` and the settings of how to divide fit each other and the rest.

    Args:
        params: settings of a data set, each of which has been checked for itself.
        is_built: whether the settings name files of ids, so that no raw rows are read.

    Raises:
        UsageError: they do not.
    """
    where = f"data set {params['dataset_id']!r}"
    kind, column = params.get("split_type") or "sequential", params.get("split_by")
    if not is_divided(params):
        if column is not None or kind == "time":
            raise UsageError(f"split_by of {where} is not read: set valid_size and test_size to divide its train_data")
        return
    size = "valid_size" if params.get("valid_size") else "test_size"
    for key in ("valid_data", "test_data"):
        if params.get(key):
            raise UsageError(f"{size} of {where} takes rows of train_data, but {key} is given too: remove one of them")
    if not params.get("valid_size"):
        raise UsageError(f"test_size of {where} is set, but neither valid_size nor valid_data: training needs one")
    if is_built:
        raise UsageError(f"{size} of {where} divides raw rows, but its files are built: name each in <split>_data")
    if kind == "time" and column is None:
        raise UsageError(f"split_type: time of {where} needs split_by, the column of times")
    if kind != "time" and column is not None:
        raise UsageError(f"split_by of {where} is read only with split_type: time, got split_type: {kind}")
    shares = [value for key in ("valid_size", "test_size") if 0 < (value := params.get(key) or 0) < 1]
    if sum(shares) >= 1:
        raise UsageError(
            f"valid_size and test_size of {where} leave no rows for training: {' + '.join(map(str, shares))}"
        )
