"""`python -m vdm.export`."""

from vdm.export.programs import main

if __name__ == "__main__":
    main()
