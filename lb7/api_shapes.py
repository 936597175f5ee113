"""What /v1/routes answers, as structs: rules with whom they lead to, and what a request meets and why."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

Kind: TypeAlias = Literal["auth", "redirect", "route", "tcp", "refused"]


class RoutePathRow(msgspec.Struct, frozen=True, gc=False):
    """The beginning of a path."""

    prefix: str
    whole: Annotated[bool, Meta(description="only up to a border of segments: /api is no beginning of /apix")] = True
    ignore_case: bool = False


class RouteServerRow(msgspec.Struct, frozen=True, gc=False):
    """One task's port."""

    address: Annotated[str, Meta(description="ADDRESS:PORT")]
    weight: Annotated[int, Meta(description="its share; 0: only clients that stick to it")]
    state: Annotated[
        str,
        Meta(
            description="up, down (checks from here fail) or draining; of a few ports also as workers see it: ejected "
            "for its failures, waking (of an app that sleeps; it has not answered yet), or slow-start"
        ),
    ]
    task: Annotated[str, Meta(description="id of its task")] = ""
    active: Annotated[int, Meta(description="requests that it has now, where workers were asked")] = 0
    failures: Annotated[int, Meta(description="failed requests since it is there, where workers were asked")] = 0
    counted: Annotated[bool, Meta(description="whether all workers told what it has")] = False


class RouteRow(msgspec.Struct, frozen=True):
    """A rule of a table: of requests with this host and one of these paths (none: any)."""

    table: Annotated[str, Meta(description="http, https, app_id, or port:N for a service port")]
    host: Annotated[str, Meta(description='what the table goes by; "*.NAME": every name below, empty: all others')]
    kind: Annotated[
        Kind,
        Meta(
            description="auth: who may pass; redirect; route: to an app's servers; tcp: every connection of the "
            "listener; refused: an app that asks for something and has no route"
        ),
    ]
    paths: list[RoutePathRow] = []
    app: Annotated[str, Meta(description="Marathon's id of the app")] = ""
    port: Annotated[int, Meta(description="its service port")] = 0
    listen: Annotated[list[str], Meta(description="addresses that the table is for")] = []
    to: Annotated[str, Meta(description="where a redirect leads (https: the same URL by that scheme)")] = ""
    realm: Annotated[str, Meta(description="of the password that is asked for; empty: everybody may pass")] = ""
    users: Annotated[list[str], Meta(description="who may pass")] = []
    servers: list[RouteServerRow] = []
    problems: Annotated[list[str], Meta(description="what of this app is not carried out")] = []


class LostRow(msgspec.Struct, frozen=True, gc=False):
    """A route of the same host that does not get the request, or an app that asked for the path in vain."""

    app: str
    reason: str
    paths: list[RoutePathRow] = []


class ExplanationRow(msgspec.Struct, frozen=True):
    """What one listener does with a request for a host and a path, and why."""

    listener: str
    action: Annotated[
        str,
        Meta(
            description="proxy, redirect (301), auth (401), deny (403), ambiguous (400), unavailable (503), or reset "
            "(of TCP)"
        ),
    ]
    then: Annotated[str, Meta(description="what is done once the right password was sent")] = ""
    host: Annotated[str, Meta(description="the host whose rules count")] = ""
    location: Annotated[str, Meta(description="where a redirect leads")] = ""
    realm: Annotated[str, Meta(description="of the password that is asked for")] = ""
    app: str = ""
    port: Annotated[int, Meta(description="the app's service port")] = 0
    steps: Annotated[list[str], Meta(description="why, in order")] = []
    servers: list[RouteServerRow] = []
    lost: list[LostRow] = []
