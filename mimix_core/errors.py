"""The errors a person meets. Each says what is wrong, where, and what to do."""

from __future__ import annotations

import errno


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


class DiskFull(MimixError):
    """No space is left for a file that was being written; nothing is wrong with the input."""

    def __init__(self, error: BaseException, path: str = "") -> None:
        where = path or str(getattr(error, "filename", None) or "")
        super().__init__(
            "the disk is full" + (f": no space for {where}" if where else "") + ". Free some space "
            "(mimix store prune lists results that are not used any more), then run the same "
            "command again: finished units are saved."
        )


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, says that no space is left."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, DiskFull):
            return True
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "disk is full" in str(error):  # SQLite
            return True
        error = error.__cause__ or error.__context__
    return False


class StageFailed(MimixError):
    """A stage broke in a way that is neither bad input nor known to be transient."""
