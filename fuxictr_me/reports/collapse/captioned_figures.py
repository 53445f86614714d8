"""The figures of a collapse report, with their captions and alternative texts."""

from collections.abc import Iterator, Sequence

from fuxictr_me.formatting import pluralize
from fuxictr_me.reports.collapse import depth_figure, field_figures, heatmaps
from fuxictr_me.reports.style import CaptionedFigure


def draw_figures(reports: Sequence[dict], curves: Sequence[dict]) -> Iterator[CaptionedFigure]:
    """Draw the figures of the first report, and its comparison with the others.

    Args:
        reports: of ``report_run``.
        curves: rows for ``draw_curves``.
    """
    report = reports[0]
    layer, interaction = report["layers"][0], report["interaction"]
    beside = f", the {layer['num_sets']} sets side by side" if layer["num_sets"] > 1 else ""
    if not layer["fields"]:
        return
    fields = pluralize(len(layer["fields"]), "field")
    yield CaptionedFigure(
        "abundance",
        field_figures.draw_abundance(layer),
        f"Information abundance of each field{beside}, learned and at random initialisation (the paper's figure 2).",
        f"Points for {fields} by number of ids. {report['verdict']['headline']} The numbers are in the table.",
    )
    yield CaptionedFigure(
        "spectra",
        field_figures.draw_spectra(layer),
        f"Singular values of each field's table{beside}, divided by the largest (the paper's figure 1b). A line that "
        "falls early belongs to a table that uses few directions.",
        "One falling line per field on a logarithmic scale, coloured by its number of ids.",
    )
    if interaction:
        yield _captioned_sub_embeddings(interaction, layer)
    if len(reports) > 1:
        names = ", ".join(one["expid"] for one in reports)
        yield CaptionedFigure(
            "compared",
            field_figures.draw_compared({one["expid"]: one["layers"][0] for one in reports}),
            f"Information abundance of each field in {names}, sets side by side (the paper's figure 8a).",
            f"Points for each field and each of {names}, beside the value of random tables. The means are in the table "
            "above.",
        )
    if layer["num_sets"] > 1:
        yield CaptionedFigure(
            "per_set",
            field_figures.draw_per_set(layer),
            "Information abundance of the table of each single set (the paper's figure 8b).",
            f"For each field, one point for each of {layer['num_sets']} sets, beside the value of random tables.",
        )
    if interaction:
        yield _captioned_norms(interaction, layer)
    if curves:
        yield CaptionedFigure(
            "curves",
            field_figures.draw_curves(curves),
            f"Information abundance at each evaluation during training{beside}, as a share of min(K, D).",
            "One line per field over the optimizer steps, and their mean.",
        )
    if deep := [one for one in reports if one.get("depth") and one["depth"]["representations"]]:
        yield _captioned_depth(deep)


def _captioned_sub_embeddings(interaction: dict, layer: dict) -> CaptionedFigure:
    fields = pluralize(len(interaction["fields"]), "field")
    return CaptionedFigure(
        "sub_embeddings",
        heatmaps.draw_sub_embeddings(interaction, layer),
        f"IA(E_i→j), the information abundance of field i as field j receives it: {interaction['kind']} (the paper's "
        "figure 3, with means in place of sums).",
        f"Heat map over {fields}, sorted by the IA of their table; means beside and above it.",
    )


def _captioned_depth(reports: Sequence[dict]) -> CaptionedFigure:
    names = ", ".join(one["expid"] for one in reports)
    return CaptionedFigure(
        "depth",
        depth_figure.draw_depth(reports),
        "Rank along the depth: the share of its directions that each representation of the validation data uses.",
        f"Two panels, effective rank and information abundance, with one line for each of {names}. The numbers are in "
        "the table.",
    )


def _captioned_norms(interaction: dict, layer: dict) -> CaptionedFigure:
    num_sets, fields = len(interaction["sets"]), pluralize(len(interaction["fields"]), "field")
    shown = min(num_sets, heatmaps.MOST_PANELS)
    first = f", the first {shown} of {num_sets} sets" if shown < num_sets else ""
    return CaptionedFigure(
        "norms",
        heatmaps.draw_norms(interaction, layer),
        f"Strength of the interaction between fields{first}: the Frobenius norm of W_i→j (the paper's figure 8c). "
        "Different maps mean that the sets learned different interactions.",
        f"{pluralize(shown, 'heat map')} over {fields}, sorted by IA.",
    )
