"""Data files alone: a folder for each released model of vdm."""
