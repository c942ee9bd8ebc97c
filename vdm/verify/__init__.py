"""Check of an installation against closed forms: `python -m vdm.verify`."""
