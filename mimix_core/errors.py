"""The errors a person meets. Each says what is wrong, where, and what to do."""

from __future__ import annotations


class MimixError(Exception):
    """Base of all errors with a message meant for the person who runs MiMix."""


class BadInput(MimixError):
    """The input or the settings are wrong: trying again cannot help.

    ``what`` names the problem, ``where`` the file, line or key, ``fix`` what to do.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message}. {fix}" if fix else message)


class MissingModel(BadInput):
    """A model the settings ask for is not on this machine."""


class Transient(MimixError):
    """Something outside failed for now (network, rate limit, busy device): a retry can help."""


class StageFailed(MimixError):
    """A stage broke in a way that is neither bad input nor known to be transient."""
