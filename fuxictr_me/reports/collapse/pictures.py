"""Which pictures a collapse report has, with what they say to those who read and those who hear them."""

from fuxictr_me.reports.collapse import figures, heatmaps
from fuxictr_me.reports.style import save


def draw_all(reports, curves, folder):
    """Draw the pictures of the first report and of the comparison; write each as PNG and SVG.

    Args:
        reports (list of dict): of ``measure``, with ``expid``.
        curves (list of dict): rows for ``draw_curves``.
        folder (Path): to write to.

    Returns:
        list of dict: ``name``, ``caption``, ``alt``, ``png`` (bytes), ``width`` (CSS pixels).
    """
    return [
        {"caption": caption, "alt": alt, **save(figure, folder, name)}
        for name, figure, caption, alt in _pictures(reports, curves)
    ]


def _pictures(reports, curves):
    """(file name, Figure, caption, alternative text) of each that has something to show."""
    report = reports[0]
    layer, interaction, judged = report["layers"][0], report["interaction"], report["verdict"]
    sets = f", the {layer['num_sets']} sets side by side" if layer["num_sets"] > 1 else ""
    if not layer["fields"]:
        return
    yield (
        "abundance",
        figures.draw_abundance(layer),
        f"Information abundance of each field{sets}, learned against random initialisation (the paper's figure 2).",
        f"Points for {len(layer['fields'])} fields by number of ids. {judged['headline']} Numbers: in the table.",
    )
    yield (
        "spectra",
        figures.draw_spectra(layer),
        f"Singular values of each field's table{sets}, divided by the largest (the paper's figure 1b). A line that "
        "falls early is a table of few directions.",
        "One falling line a field on a logarithmic scale, coloured by its number of ids.",
    )
    if interaction:
        yield (
            "sub_embeddings",
            heatmaps.draw_sub_embeddings(interaction, layer),
            f"What field j sees of field i: IA(E_i→j), {interaction['kind']} (the paper's figure 3, with means in "
            "place of its sums).",
            f"Heat-map over {len(interaction['fields'])} fields by the IA of their table; means beside and above it.",
        )
    if len(reports) > 1:
        names = ", ".join(one["expid"] for one in reports)
        yield (
            "compared",
            figures.draw_compared({one["expid"]: one["layers"][0] for one in reports}),
            f"Information abundance of each field in {names}, sets side by side (the paper's figure 8a).",
            f"Points for each field and each of {names}, beside what random tables have. The table of means is above.",
        )
    if layer["num_sets"] > 1:
        yield (
            "per_set",
            figures.draw_per_set(layer),
            "Information abundance of each set's table by itself (the paper's figure 8b).",
            f"For each field one point for each of {layer['num_sets']} sets, beside what random tables have.",
        )
    if interaction:
        several = len(interaction["sets"])
        shown = f", the first {heatmaps.MOST_PANELS} of {several} sets" if several > heatmaps.MOST_PANELS else ""
        yield (
            "norms",
            heatmaps.draw_norms(interaction, layer),
            f"Strength of the interaction between fields{shown}: the Frobenius norm of W_i→j (the paper's figure 8c). "
            "Maps that differ are sets that learned different interactions.",
            f"{min(several, heatmaps.MOST_PANELS)} heat-map(s) over {len(interaction['fields'])} fields, sorted by IA.",
        )
    if curves:
        yield (
            "curves",
            figures.draw_curves(curves),
            f"Information abundance at each evaluation while it trained{sets}, as a share of min(K, D).",
            "One line a field over the optimizer steps, and their mean.",
        )
