"""Where the packages are; all else is in pyproject.toml. The config files of configs/ are installed as vdm.configs."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["vdm", "vdm.*"]), "vdm.configs"], package_dir={"vdm.configs": "configs"})
