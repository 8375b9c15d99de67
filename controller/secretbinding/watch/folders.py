"""Which folders of secrets can be listed at once: found out by asking, and asked again after a while."""

import structlog

from secretbinding.watch.targets import Folder

_log = structlog.get_logger(__name__)

RELIST_SECONDS = 3600.0
"""How long a folder that could not be listed is read one by one."""


class Folders:
    """Not thread-safe. `now` is a reading of a clock that never goes back, in seconds."""

    def __init__(self) -> None:
        self._until: dict[Folder | str, float] = {}

    def listable(self, folder: Folder) -> bool:
        """Whether to list it."""
        return folder not in self._until and folder.mount not in self._until

    def give_up(self, what: Folder | str, why: str, now: float) -> None:
        """Read the secrets of a folder, or of a whole mount, one by one."""
        mount = what.mount if isinstance(what, Folder) else what
        _log.info("secrets are looked at one by one, not by folder", mount=mount, why=why)
        self._until[what] = now + RELIST_SECONDS

    def try_again(self, now: float) -> bool:
        """True when there are some whose time is over: they are listed again."""
        over = [what for what, until in self._until.items() if until <= now]
        for what in over:
            del self._until[what]
        return bool(over)
