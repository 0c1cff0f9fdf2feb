"""Every example in a docstring says what the code does."""

import doctest
import importlib
import pkgutil
import re

import pytest

import trlm_utils
from trlm_utils.rewards import mixes

MODULES = [
    module.name
    for module in pkgutil.walk_packages(trlm_utils.__path__, "trlm_utils.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", mixes.REWARDS)
def test_every_reward_has_an_example_and_its_range(name):
    text = mixes.REWARDS[name].__doc__
    assert ">>>" in text
    assert re.search(r"in [\[(]-?[\d.p]|else 0\.0", text)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0
