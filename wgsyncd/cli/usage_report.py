"""The documents of `wgsyncd usage --json`: bytes by period, or with `--top` a ranking."""

from collections.abc import Sequence

from msgspec import Struct

from wgsyncd.cli.output import sanitize
from wgsyncd.engine.reports.bandwidth import BandwidthReport


class Bytes(Struct, frozen=True, kw_only=True):
    """Bytes in the configured perspective."""

    rx_bytes: int
    tx_bytes: int
    total_bytes: int

    @property
    def numbers(self) -> tuple[int, int, int]:
        """In the order of the columns."""
        return self.rx_bytes, self.tx_bytes, self.total_bytes


Rows = tuple[tuple[str, ...], Sequence[tuple[tuple[str, ...], Bytes]]]


class PeriodBytes(Bytes, frozen=True, kw_only=True):
    """The bytes of one hour, day or month."""

    period: str


class RankedBytes(Bytes, frozen=True, kw_only=True):
    """The bytes of one device or owner. ``device`` is null for an owner."""

    device: str | None
    name: str  # what its owner calls the device, or ""
    owner: str


class SubjectReport(Struct, frozen=True, kw_only=True):
    """The device, owner or everybody that the bytes belong to."""

    kind: str  # all, device or owner
    device: str | None
    name: str = ""  # what its owner calls the device, or ""
    owner: str | None


class RankedReport(Struct, frozen=True, kw_only=True):
    """What is ranked, and how many there are."""

    kind: str  # devices or owners
    count: int


class Frame(Struct, frozen=True, kw_only=True):
    """What both documents begin with."""

    by: str  # hour, day or month
    since: str
    until: str
    zone: str
    perspective: str
    notes: list[str]
    total: Bytes
    owner_word: str = "owner"  # what the control plane calls an owner, such as "user"

    @property
    def period(self) -> str:
        """The time that the report covers, for people."""
        return f"by {self.by}, {short_hour(self.since)} to {short_hour(self.until)} {self.zone}"

    @property
    def legend(self) -> tuple[str, str]:
        """What rx and tx mean."""
        whose = "devices" if self.perspective == "device" else self.perspective
        return f"rx: received by the {whose}", f"tx: sent by the {whose}"


class UsageReport(Frame, frozen=True, kw_only=True):
    """The document of `wgsyncd usage --json`."""

    of: SubjectReport
    periods: list[PeriodBytes]
    bandwidth: BandwidthReport | None  # of the owner. null: it is not limited, or the report is about everybody

    @property
    def title(self) -> str:
        """Whose bytes they are, and of when."""
        owner = f"{self.owner_word} {self.of.owner}"
        whose = {"all": "all devices", "owner": owner}
        return f"{whose.get(self.of.kind, f'device {self.of.name or self.of.device} ({owner})')}, {self.period}"

    def rows(self) -> Rows:
        """The names of the columns that come before the bytes, and the lines."""
        return ("period",), [((one.period,), one) for one in self.periods]


class UsageRankingReport(Frame, frozen=True, kw_only=True):
    """The document of `wgsyncd usage --top N --json`. The total counts all, not only those in the ranking."""

    of: RankedReport
    ranking: list[RankedBytes]

    @property
    def title(self) -> str:
        """Whose bytes they are, and of when."""
        kind = f"{self.owner_word}s" if self.of.kind == "owners" else self.of.kind
        return f"{len(self.ranking)} of {self.of.count} {kind} with traffic, {self.period}"

    def rows(self) -> Rows:
        """The names of the columns that come before the bytes, and the lines."""
        if self.of.kind == "owners":
            return (self.owner_word,), [((one.owner,), one) for one in self.ranking]
        return ("device", self.owner_word), [((one.device or "", one.owner), one) for one in self.ranking]


def csv_cell(name: str) -> str:
    """A name that no spreadsheet takes for a formula (OWASP, "CSV Injection"). Customers may choose names."""
    plain = sanitize(name)
    return f"'{plain}" if plain.startswith(("=", "+", "-", "@")) else plain


def short_hour(period: str) -> str:
    """An hour without its offset, for people. A day or a month stays as it is."""
    return period.replace("T", " ")[:16]
