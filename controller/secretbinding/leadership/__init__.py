"""Which of several controllers works on which jobs."""

from secretbinding.leadership.keeper import Callbacks, Keeper
from secretbinding.leadership.shards import LEADER, assigned, shard_of

__all__ = ["LEADER", "Callbacks", "Keeper", "assigned", "shard_of"]
