"""By which names a server on a loopback address may be asked for.

A page in the browser of whoever runs the service can have a name of its own lead to this machine, and then counts as a
page of the service to the browser (DNS rebinding). It cannot have the browser ask for another name than its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workpool.service.http import Client, Receive, Refusal, Request, Scope, Send

if TYPE_CHECKING:
    from workpool.service.application import Application

__all__ = ["ForNames", "is_loopback"]


class ForNames:
    """An application, for requests that ask for one of these names, for localhost, or for an address."""

    def __init__(self, application: Application, names: Collection[str]) -> None:
        self._application = application
        self._names = {"localhost", *map(str.lower, names)}
        self.takes_any = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.takes_any or self._is_for_us(Request(scope, receive).header(b"host")):
            await self._application(scope, receive, send)
            return
        refusal = Refusal(
            421,
            "misdirected",
            "on a loopback address only localhost, addresses and the names that the server was given are answered",
        )
        await refusal.response().send(Client(receive, send, wants_body=scope["method"] != "HEAD"))

    def _is_for_us(self, host: bytes | None) -> bool:
        """What names no host is no browser."""
        if host is None:
            return True
        try:
            name = urlsplit(f"//{host.decode('ascii')}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
