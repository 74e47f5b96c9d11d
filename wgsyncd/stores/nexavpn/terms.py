"""Gives users the bandwidth profiles of their groups, because NexaVPN's tables have no profiles."""

from collections.abc import Mapping

from wgsyncd.config.schema import Shaping
from wgsyncd.core.shaping.profiles import Terms
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.rows import text_of

_GROUPS = f"""
SELECT {text_of("u.username")}, g.name FROM wgsyncd.users u
JOIN wgsyncd.group_memberships m ON m.user_id = u.id JOIN wgsyncd.groups g ON g.id = m.group_id
WHERE g.deleted_at IS NULL AND g.name = ANY(%s)
"""  # noqa: S608


class GroupTerms:
    """Reads which profile each user has, if shaping is on and the settings name groups."""

    def __init__(self, settings: Shaping) -> None:
        self._profiles = settings.by_group if settings.mode == "enforce" else {}

    @property
    def are_asked(self) -> bool:
        """Whether a plan depends on the groups of users."""
        return bool(self._profiles)

    def load(self, connection: Connection) -> Mapping[str, Terms]:
        """The terms of users, by the name that rows have as their owner. Users without such a group are left out.

        A user in several groups has the profile of the group that the settings name first.
        """
        if not self._profiles:
            return {}
        groups: dict[str, set[str]] = {}
        for user, group in connection.query(_GROUPS, (list(self._profiles),)):
            groups.setdefault(user, set()).add(group)
        return {
            user: Terms(next(profile for group, profile in self._profiles.items() if group in some))
            for user, some in groups.items()
        }
