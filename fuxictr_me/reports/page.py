"""Render a report as one HTML page that opens from disk: images and styles inside, no scripts, no network."""

import base64
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from fuxictr_me.formatting import pluralize
from fuxictr_me.reports.format import format_settings
from fuxictr_me.reports.style import SavedFigure


def render_page(template: str, figures: Sequence[SavedFigure], **context: object) -> str:
    """Render a template of ``fuxictr_me/reports/templates``, which extends ``page.html.j2``.

    Args:
        template: file name.
        figures: are embedded in the page.
        **context: what else the template reads.
    """
    environment = Environment(loader=PackageLoader("fuxictr_me.reports", "templates"), autoescape=True)
    environment.filters.update(settings=format_settings, base64=lambda data: base64.b64encode(data).decode())
    environment.globals["pluralize"] = pluralize
    return environment.get_template(template).render(figures=figures, **context) + "\n"
