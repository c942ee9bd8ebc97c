"""To come."""


def commands() -> str:
    """To come."""
    return ""
