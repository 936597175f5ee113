"""What is below a prefix of keys, as a mirror of the tree tells it, for one who reads it as whole pictures."""

from __future__ import annotations

import asyncio
import logging

from mesos_dns.zookeeper import Stat
from mesos_dns.zookeeper_tree import Kind

log = logging.getLogger(__name__)

VALUE = "=value"
"""The znode that holds a key's value: "=" can't occur in a key, and an ephemeral can have no children."""


class Picture:
    """The reader of a `Tree` rooted at a prefix: `values`, and `changed` when they are worth a look.

    `strip` characters of each path come before the key. `ready` is False until everything was read once.
    """

    def __init__(self, root: str, strip: int) -> None:
        self.values: dict[str, bytes] = {}
        self.changed = asyncio.Event()
        self.ready = False
        self._root = root
        self._strip = strip
        self._hidden = False
        self._complaint = ""

    def kind(self, parent: str, name: str) -> Kind:
        """All is looked into, and values are read; the prefix's own is not below it."""
        if name != VALUE:
            return Kind.BRANCH
        return Kind.IGNORED if parent == self._root else Kind.LEAF

    def leaf(self, path: str, data: bytes, stat: Stat) -> None:
        """A value is new or another one."""
        self.values[self._key(path)] = data
        self.changed.set()

    def gone(self, path: str) -> None:
        """A key is no more."""
        self.values.pop(self._key(path), None)
        self.changed.set()

    def complete(self) -> None:
        """All has been read. What an ACL hides is not taken for nothing: then the first picture waits."""
        self.ready = self.ready or not self._hidden
        self._hidden = False
        self.changed.set()

    def complain(self, reason: str) -> None:
        """Something can't be read."""
        self._hidden = True
        if reason != self._complaint:
            self._complaint = reason
            log.warning("a watch of keys is impaired reason=%s", reason)

    def _key(self, path: str) -> str:
        return path[self._strip : -len(VALUE) - 1]
