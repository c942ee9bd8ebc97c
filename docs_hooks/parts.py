"""To come."""


def parts() -> str:
    """To come."""
    return ""
