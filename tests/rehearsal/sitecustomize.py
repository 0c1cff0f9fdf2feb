"""Enable the rehearsal device as soon as a process has imported torch; block the network.

Python imports a module of this name at start, and only one: so this one, which stands
before the network's block in PYTHONPATH, runs that, too.
"""

import importlib.abc
import importlib.machinery
import os
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
runpy.run_path(str(HERE.parent / "no_network" / "sitecustomize.py"))


class AfterTorch(importlib.abc.MetaPathFinder):
    """Finds torch as ever, and enables the device when its import has ended."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_and_enable(module):
            load(module)
            sys.path.insert(0, str(HERE.parent))
            from rehearsal import device

            sys.path.remove(str(HERE.parent))
            device.enable()

        spec.loader.exec_module = load_and_enable
        return spec


if os.environ.get("TRLM_REHEARSAL"):
    os.environ["ACCELERATE_TORCH_DEVICE"] = "rehearsal:0"
    sys.meta_path.insert(0, AfterTorch())
