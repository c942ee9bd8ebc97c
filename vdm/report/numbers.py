"""Formatting of numbers for readers."""

import math
from typing import Any


def is_number(value: Any) -> bool:
    """Tell whether a JSON value is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def brief(value: Any, digits: int = 4) -> str:
    """Format a number with a few significant digits, or return "–" for anything else.

    >>> brief(0.000123456), brief(1234567), brief(-3.0), brief(None)
    ('0.0001235', '1,234,567', '−3', '–')
    """
    if not is_number(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def with_error(value: Any, stderr: Any, unit: str = "") -> str:
    """Format a number to the precision of its standard error, which is given with two significant digits.

    >>> with_error(1.860926, 0.020009, "bits/dim"), with_error(1.8609, None), with_error(98.0, 0.4, "%")
    ('1.861 ± 0.020 bits/dim', '1.861', '98.00 ± 0.40 %')
    """
    if not is_number(value):
        return "–"
    unit = f" {unit}" * bool(unit)
    if not is_number(stderr) or stderr <= 0:
        return brief(value) + unit
    places = max(0, 1 - math.floor(math.log10(stderr)))
    if places > 8:
        return f"{brief(value)} ± {brief(stderr, 2)}{unit}"
    return f"{value:.{places}f} ± {stderr:.{places}f}{unit}".replace("-", "−")


def counted(number: Any) -> str:
    """Format a large number in thousands (k), millions (M) or billions (G).

    >>> counted(950), counted(13_248), counted(1_234_567)
    ('950', '13.2 k', '1.23 M')
    """
    if not is_number(number):
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {letter}"
    return brief(number)


def lasting(seconds: Any) -> str:
    """Format a duration in hours, minutes and seconds.

    >>> lasting(42), lasting(130), lasting(7300)
    ('42 s', '2 min 10 s', '2 h 1 min')
    """
    if not is_number(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def shown_value(value: Any) -> str:
    """Format a config value as it is written on the command line.

    >>> shown_value([8, 8, 1]), shown_value(None), shown_value("unet"), shown_value([])
    ('(8, 8, 1)', 'None', 'unet', '()')
    """
    return value if isinstance(value, str) else repr(tuple(value) if isinstance(value, list) else value)
