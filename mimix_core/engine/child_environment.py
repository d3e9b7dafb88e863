"""Give child processes no secret of the environment that they do not need.

A child reads videos, weights and tables of strangers; a flaw in a decoder must not find the keys of
a provider, of Prefect, of a cloud or of a repository in its environment. A variable counts as a
secret by its name, or because its value is an address with a password. What a child needs is named
where it is started.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

PASS_VARIABLE = "MIMIX_PASS_SECRETS"
"""Names, separated by commas, of secrets that units get all the same: for extensions that need one.
It is no setting, so that a settings file of a stranger cannot ask for them."""

_SECRET_NAME = re.compile(
    r"(^|_)(KEYS?|APIKEY|SECRETS?|TOKENS?|PASS|PASSWORDS?|PASSWD|PASSPHRASE|PWD|CREDENTIALS?|AUTH|"
    r"COOKIE|DSN|PAT|CONNECTION_(URL|STRING))(_|$)",
    re.IGNORECASE,
)
_NO_SECRETS = frozenset({"PWD", "OLDPWD", PASS_VARIABLE})
_PASSWORD_IN_ADDRESS = re.compile(r"://[^/\s@]*:[^/\s@]+@")


def is_secret(name: str, value: str) -> bool:
    """Return whether an environment variable looks as if it held a secret."""
    if name in _NO_SECRETS:
        return False
    return bool(_SECRET_NAME.search(name) or _PASSWORD_IN_ADDRESS.search(value))


def passed_secrets() -> frozenset[str]:
    """Return the names of secrets that a person wants units to have."""
    names = os.environ.get(PASS_VARIABLE, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


def child_environment(
    keep: Collection[str] = (), *, prefixes: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return this process's environment without secrets.

    ``keep`` and ``prefixes``: names, and beginnings of names, of those that the child needs.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in keep or name.startswith(prefixes) or not is_secret(name, value)
    }


@contextmanager
def hidden_secrets(*prefixes: str) -> Iterator[None]:
    """Take secrets out of this process's environment meanwhile, for a child of a library.

    ``prefixes``: beginnings of names that stay. No other thread may read them in between.
    """
    hidden = dict(os.environ.items() - child_environment(prefixes=prefixes).items())
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def forget_secrets() -> Mapping[str, str]:
    """Remove secrets from this process's environment for good; return what it was before."""
    before = dict(os.environ)
    for name in before.keys() - child_environment().keys():
        del os.environ[name]
    return before
