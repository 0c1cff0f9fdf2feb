"""Secrets (the Hub's token, W&B's key): from the environment, or from the project's ``.env``.

A secret is read where it is used. It is no parameter, so it gets into no notebook, manifest
or digest.
"""

from __future__ import annotations

import os
import re

from trlm_utils import files
from trlm_utils.files import CourseError

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)


def find(name: str) -> str:
    """The value of a name in the environment, else in ``.env``; "" if neither has it."""
    return os.environ.get(name) or in_file().get(name, "")


def in_file() -> dict[str, str]:
    """Names and values in ``.env`` of the project; {} without that file.

    Raises:
        CourseError: when there is such a file and python-dotenv is not installed.
    """
    place = files.PROJECT_ROOT / ".env"
    if not place.is_file():
        return {}
    try:
        from dotenv import dotenv_values
    except ImportError:
        raise CourseError(
            "to read .env, python-dotenv is needed: pip install python-dotenv"
        ) from None
    return {name: value for name, value in dotenv_values(place, interpolate=False).items() if value}


def secrets() -> dict[str, str]:
    """All names of the environment and of ``.env`` that sound like a secret, with their values."""
    found = in_file() | dict(os.environ)
    return {name: value for name, value in found.items() if SECRET_NAME.search(name)}
