"""Format the numbers and settings of reports: typographic minus signs, and a dash for what does not exist."""

from collections.abc import Mapping

from fuxictr_me.formatting import MISSING

DIGITS = 5  # decimals of a metric, as in the paper


def format_number(value: float | None, digits: int = DIGITS) -> str:
    """Return ``0.81228``, with commas between thousands; ``–`` for None."""
    return MISSING if value is None else f"{value:,.{digits}f}".replace("-", "−")


def format_signed(value: float | None, digits: int = DIGITS) -> str:
    """Return ``+0.00046`` or ``−0.00012``; ``–`` for None."""
    return MISSING if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def format_spread(mean: float | None, sd: float | None, digits: int = DIGITS) -> str:
    """Return ``0.81228 ± 0.00005``; the mean alone if ``sd`` is None."""
    number = format_number(mean, digits)
    return number if sd is None else f"{number} ± {format_number(sd, digits)}"


def format_interval(low: float | None, high: float | None) -> str:
    """Return ``−0.00012 to +0.00046``; ``–`` if ``low`` is None."""
    return MISSING if low is None else f"{format_signed(low)} to {format_signed(high)}"


def format_p_value(p: float | None) -> str:
    """Return two significant digits, at most four decimals: ``0.62``, ``0.0031``, ``<0.0001``; ``–`` for None."""
    if p is None:
        return MISSING
    return "<0.0001" if p < 1e-4 else f"{p:.2g}" if p >= 0.001 else f"{p:.4f}"


def format_percent(value: float | None) -> str:
    """Return ``37%`` for 0.37; ``–`` for None."""
    return MISSING if value is None else f"{value:.0%}"


def format_degrees(value: float | None) -> str:
    """Return ``42°``; ``–`` for None."""
    return MISSING if value is None else f"{value:.0f}°"


def format_settings(settings: Mapping[str, object]) -> str:
    """Return ``net_dropout 0.2, embedding_regularizer 0/1e-06``; ``–`` for no settings."""
    return ", ".join(f"{name} {_format_setting(value)}" for name, value in settings.items()) or MISSING


def _format_setting(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
