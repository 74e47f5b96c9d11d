"""What a request for the page asks for: the order, the filter and the number of devices."""

from collections.abc import Mapping
from typing import NamedTuple, Self, get_args
from urllib.parse import urlencode

from wgsyncd.engine.reports.devices import Order

EACH = 200  # devices on one page


class Choice(NamedTuple):
    """What the address of the page asks for."""

    sort: Order = "device"
    text: str = ""
    online: bool = False
    all: bool = False
    page: int = 1
    pause: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """The choice of a request. What no page has asked for is left out."""
        page = query.get("page", "1")
        sort: Order = next((one for one in get_args(Order) if one == query.get("sort")), "device")
        number = max(1, int(page)) if page.isascii() and page.isdecimal() and len(page) < 5 else 1
        return cls(sort, query.get("q", ""), "online" in query, "all" in query, number, "pause" in query)

    def link(self, **changes: object) -> str:
        """The address of this choice with changes."""
        choice = self._replace(**changes)  # type: ignore[arg-type]
        flags = {name: "1" for name in ("online", "all", "pause") if getattr(choice, name)}
        given = {"sort": "" if choice.sort == "device" else choice.sort, "q": choice.text, **flags}
        given |= {"page": str(choice.page)} if choice.page > 1 else {}
        return "/?" + urlencode({name: one for name, one in given.items() if one}, errors="surrogateescape")

    def selection(self) -> dict[str, str]:
        """The query of GET /devices for this choice."""
        flags = {"online": "true"} if self.online else {}
        flags |= {"all": "true"} if self.all else {}
        return {"text": self.text, "sort": self.sort, "limit": str(EACH * self.page), **flags}
