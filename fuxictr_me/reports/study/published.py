"""The paper's main table: test AUC on Criteo and Avazu (arXiv 2310.04400).

Its standard deviations over three initialisations are 2e-5 to 22e-5 on Criteo and 3e-5 to 50e-5 on Avazu. The row of
IPNN's single embeddings was most likely never scaled: the authors' code builds dimension 10 at every size. Base is
K = 50 for NFwFM, K = 10 for the others.
"""

from fuxictr_me.study.results import StudyResults

PAPER_NAMES = {
    "DNN_ME": "DNN",
    "PNN_ME": "IPNN",
    "NFwFM_ME": "NFwFM",
    "xDeepFM_ME": "xDeepFM",
    "DCNv2_ME": "DCNv2",
    "FinalMLP_ME": "FinalMLP",
}
COLUMNS = ("base", "SE 2x", "SE 3x", "SE 4x", "SE 10x", "ME 2x", "ME 3x", "ME 4x", "ME 10x")
TABLES = {
    "criteo_paper": {
        "DNN": (0.81228, 0.81222, 0.81207, 0.81213, 0.81142, 0.81261, 0.81288, 0.81289, 0.81287),
        "IPNN": (0.81272, 0.81273, 0.81272, 0.81271, 0.81262, 0.81268, 0.81270, 0.81273, 0.81311),
        "NFwFM": (0.81059, 0.81087, 0.81090, 0.81112, 0.81113, 0.81128, 0.81153, 0.81171, 0.81210),
        "xDeepFM": (0.81217, 0.81180, 0.81167, 0.81137, 0.81116, 0.81236, 0.81239, 0.81255, 0.81299),
        "DCNv2": (0.81339, 0.81341, 0.81345, 0.81346, 0.81357, 0.81348, 0.81361, 0.81382, 0.81385),
        "FinalMLP": (0.81259, 0.81262, 0.81248, 0.81240, 0.81175, 0.81290, 0.81302, 0.81303, 0.81303),
    },
    "avazu_paper": {
        "DNN": (0.78744, 0.78759, 0.78752, 0.78728, 0.78648, 0.78805, 0.78826, 0.78862, 0.78884),
        "IPNN": (0.78732, 0.78741, 0.78738, 0.78750, 0.78745, 0.78806, 0.78868, 0.78902, 0.78949),
        "NFwFM": (0.78684, 0.78757, 0.78783, 0.78794, 0.78799, 0.78868, 0.78901, 0.78932, 0.78974),
        "xDeepFM": (0.78743, 0.78750, 0.78714, 0.78735, 0.78693, 0.78848, 0.78886, 0.78894, 0.78927),
        "DCNv2": (0.78786, 0.78835, 0.78854, 0.78852, 0.78856, 0.78862, 0.78882, 0.78907, 0.78942),
        "FinalMLP": (0.78751, 0.78797, 0.78795, 0.78742, 0.78662, 0.78821, 0.78831, 0.78836, 0.78830),
    },
}
NOTES = {
    "criteo_paper": "Published: arXiv 2310.04400, three initialisations, sd 0.00002 to 0.00022.",
    "avazu_paper": "Published: arXiv 2310.04400, three initialisations, sd 0.00003 to 0.00050.",
}
IPNN_NOTE = (
    "The published SE row of IPNN was most likely never scaled: the authors' code builds dimension 10 at every size."
)


def published_auc(dataset_id: str, model: str, title: str) -> float | None:
    """Return the paper's test AUC of a cell, or None if the paper does not have it.

    Args:
        dataset_id: ``criteo_paper`` or ``avazu_paper``; the paper has no other.
        model: e.g. ``DCNv2_ME``.
        title: ``base``, ``SE 4x``, ``ME 10x``, ...
    """
    row = TABLES.get(dataset_id, {}).get(PAPER_NAMES.get(model, ""))
    return row[COLUMNS.index(title)] if row and title in COLUMNS else None


def published_aucs(results: StudyResults) -> dict[tuple[str, str, int], float]:
    """Return (model, kind, scale) -> the paper's test AUC, for the cells of a study that the paper has."""
    found = {(c.model, c.kind, c.scale): published_auc(results.paper_data, c.model, c.title) for c in results.cells}
    return {cell: auc for cell, auc in found.items() if auc is not None}
