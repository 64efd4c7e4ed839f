"""For `--setup_file`: Beam builds a source package of the pipeline for remote workers with it.

All metadata is in pyproject.toml.
"""

from setuptools import setup

setup()
