from collections.abc import Callable
from typing import Any, Literal, final

from lb7._lookup import Table
from lb7._streams import Peer, Poll
from lb7.settings import Settings

@final
class Edge:
    def __init__(self, settings: Settings, log: Callable[[dict[str, Any]], None]) -> None: ...
    poll: Poll | None
    @property
    def settings(self) -> Settings: ...
    @property
    def log(self) -> Callable[[dict[str, Any]], None]: ...
    @property
    def connections(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def draining(self) -> bool: ...
    def front(
        self, name: str, table: Table, by: Literal["host", "host_port", "sni", "app_id", "none"], tls: bool, port: int
    ) -> Front: ...
    def tick(self) -> None: ...
    def drain(self) -> None: ...
    def end_holding(self, seconds: float) -> None: ...
    def counts(self) -> dict[str, int]: ...

@final
class Front:
    table: Table
    @property
    def edge(self) -> Edge: ...
    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> bool: ...
    def __call__(self) -> Peer: ...
    def counts(self) -> dict[str, int]: ...

def access_record(
    client: str,
    listener: str,
    head: bytes | None,
    asked: tuple[str, str, str] | None,
    status: int,
    cluster: str | None,
    server: str | None,
    tries: int,
    received: int,
    sent: int,
    queued: float,
    connecting: float,
    first: float,
    total: float,
    why: str | None,
) -> dict[str, Any]: ...
