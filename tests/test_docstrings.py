"""Every example in a docstring says what the code does."""

import doctest
import importlib
import pkgutil

import pytest

import trlm_utils

MODULES = [module.name for module in pkgutil.iter_modules(trlm_utils.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    failed, _ = doctest.testmod(importlib.import_module(f"trlm_utils.{name}"))
    assert failed == 0
