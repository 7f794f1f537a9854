# SPDX-License-Identifier: Apache-2.0
"""Imported before anything else by tests that need the packages of analysis/requirements.txt: goes
on in the Python of .venv, where there is one; ends the test as skipped without them."""
import os
import pathlib
import sys

from sweep_support import ROOT

VENV = ROOT / ".venv"
if (VENV / "bin/python").exists() and pathlib.Path(sys.prefix).resolve() != VENV.resolve():
    python = str(VENV / "bin/python")
    os.execv(python, [python, "-B", *sys.argv])
try:
    import h5netcdf  # noqa: F401 - xarray's engines
    import h5py  # noqa: F401
    import matplotlib  # noqa: F401
    import netCDF4  # noqa: F401
    import numpy  # noqa: F401
    import pandas  # noqa: F401
    import xarray  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}; python3 -m venv .venv, then pip install -r "
          "analysis/requirements.txt")
    sys.exit(77)
sys.path.insert(0, str(ROOT / "analysis"))
