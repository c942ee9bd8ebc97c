"""To come."""


def config_fields() -> str:
    """To come."""
    return ""
