"""Numbers with their nouns, times and ages, for sentences."""

from datetime import datetime


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 peer``, ``2 peers``. ``plural``: for a noun that does not only add an s, such as policies."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def short_age(seconds: int | None) -> str:
    """An age in its largest unit: ``12 s``, ``3 min``, ``5 h``, ``2 d``. ``never`` for None."""
    if seconds is None:
        return "never"
    size, unit = next((one for one in ((86400, "d"), (3600, "h"), (60, "min")) if seconds >= one[0]), (1, "s"))
    return f"{seconds // size} {unit}"


def short_time(at: str | None) -> str:
    """A time of a report for people, without its offset. ``never`` for None."""
    return at[:19].replace("T", " ") if at else "never"


def seconds_between(early: str | None, late: str) -> int | None:
    """Seconds between two times of a report, less than 0 if the first one is later. None if it never was."""
    if early is None:
        return None
    return int((datetime.fromisoformat(late) - datetime.fromisoformat(early)).total_seconds())
