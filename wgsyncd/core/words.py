"""Numbers with their nouns, for sentences."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 peer``, ``2 peers``. ``plural``: for a noun that does not only add an s, such as policies."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
