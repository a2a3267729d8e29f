"""Who is let in: the slots of a service, and how many of them one caller may hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from talkingface.contract.errors import ServiceError, invalid_field

# Visible ASCII: names appear in tables and may be URIs, e-mail addresses or tokens' subjects.
_CALLER = re.compile(r"[!-~]{1,128}")


class Slots:
    """Places that calls hold. One call more is refused, at once."""

    def __init__(
        self,
        owner: str,
        total: int,
        per_caller: int = 0,
        on_change: Callable[[int, int], None] = lambda in_use, total: None,
    ) -> None:
        """
        :param owner: whose they are, for the text of a refusal.
        :param per_caller: how many one caller may hold; 0: as many as there are.
        :param on_change: told how many are in use, of how many.
        """
        self._owner = owner
        self._total = total
        self._per_caller = per_caller
        self._on_change = on_change
        self._held: Counter[str] = Counter()  # by caller; none without a slot is kept
        on_change(0, total)

    @property
    def in_use(self) -> int:
        """How many are held."""
        return self._held.total()

    @property
    def total(self) -> int:
        """How many there are. May fall below what is held; those calls go on."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        if total != self._total:
            self._total = total
            self._on_change(self.in_use, total)

    def take(self, caller: str = "") -> None:
        """Hold one more.

        :param caller: who; those without a name are one caller.
        :raises ServiceError: QUOTA_EXCEEDED or NO_CAPACITY.
        """
        if self._per_caller and self._held[caller] >= self._per_caller:
            raise ServiceError(
                "QUOTA_EXCEEDED",
                f"this caller holds {self._per_caller} sessions, as many as one may",
                metadata={"limit": str(self._per_caller)},
            )
        if self.in_use >= self._total:
            raise ServiceError(
                "NO_CAPACITY",
                f"all {self._total} slots of {self._owner} are taken",
                metadata={"slots": str(self._total)},
            )
        self._held[caller] += 1
        self._on_change(self.in_use, self._total)

    def free(self, caller: str = "") -> None:
        """Give one back."""
        self._held -= Counter({caller: 1})
        self._on_change(self.in_use, self._total)


def check_caller(names: Sequence[str], key: str) -> str:
    """Who calls: the one name that the metadata `key` tells, or "".

    :raises ServiceError: FIELD_INVALID.
    """
    if not names:
        return ""
    if len(names) > 1 or not _CALLER.fullmatch(names[0]):
        raise invalid_field(f"metadata.{key}", "must be one name of 1 to 128 visible characters")
    return names[0]
