from lb7._balance import Cluster
from lb7._streams import Peer
from lb7.allowed import Allowed
from lb7.settings import Settings

class Places:
    open: int
    most: int
    most_each: int
    def __init__(self, most: int, most_each: int = 0) -> None: ...

class TcpFront:
    settings: Settings
    name: str
    cluster: Cluster
    places: Places
    open: int
    accepted: int
    received: int
    sent: int
    def __init__(
        self,
        settings: Settings,
        name: str,
        cluster: Cluster,
        allowed: Allowed | None = None,
        places: Places | None = None,
    ) -> None: ...
    def __call__(self) -> Peer: ...
    def serve(self, cluster: Cluster) -> None: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...
    def counts(self) -> dict[str, int]: ...
