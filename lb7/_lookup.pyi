from collections.abc import Mapping

from lb7._balance import Cluster
from lb7.allowed import Allowed
from lb7.credentials import Credentials
from lb7.table import HostRules, RedirectRule

class Decision:
    auth: Credentials | None
    redirect: RedirectRule | None
    cluster: Cluster | None
    allow: Allowed | None
    hsts: bytes | None
    strip_path: bytes | None
    host_line: bytes | None
    location: bytes | None
    sticky: bytes | None
    root_redirect: bytes | None
    root_hosts: frozenset[bytes] | None
    plain: bool
    ambiguous: bool

class Table:
    name: str
    exact_host: bool
    exact_path: bool
    exact_case: bool
    ambiguous: int
    def __init__(
        self, name: str, exact_host: bool = False, exact_path: bool = False, exact_case: bool = False
    ) -> None: ...
    def __len__(self) -> int: ...
    def put(self, host: str, rules: HostRules, clusters: Mapping[str, Cluster]) -> None: ...
    def drop(self, host: str) -> None: ...
    def decide(self, host: bytes, path: bytes) -> Decision | None: ...
    def knows(self, host: str) -> bool: ...
