"""Measures the English of pages, docstrings, comments and messages by the project's rules."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

# A reader who learnt English at school stops at these. The longest pattern of an expression comes first.
BANNED = (
    "whom", "whoever", "whomever", "whosoever", "whatever", "of which", "what of", "that of", "those of", "of it all",
    "thereof", "therein", "thereby", "hereby", "wherein", "whereby", "hence", "hitherto", "likewise", "lest", "ought",
    "shall", "nobody else's", "somebody else's", "be it", "so be", "as it were", "anew", "e.g.", "i.e.", "etc.",
)  # fmt: skip
_BANNED = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, BANNED))})(?![\w-])", re.IGNORECASE)
_CODE = "code"  # what stands for a name, a command or a value: one word
_SQL = re.compile(
    r"\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|GRANT|REVOKE|LEFT JOIN|SET|SHOW|WITH|START|ORDER|WHERE)\b"
)


@dataclass(frozen=True)
class Limits:
    """What a text must keep to. A limit counts words."""

    mean: float
    longest: int


def faults(sentences: Iterable[str], limits: Limits) -> list[str]:
    """Everything that breaks a rule, with the sentence that breaks it."""
    texts = [text for text in sentences if words(text)]
    found = []
    for text in texts:
        if (count := words(text)) > limits.longest:
            found.append(f"{count} words: {text}")
        if ";" in text:
            found.append(f"semicolon: {text}")
        found += [f"{match[0]!r}: {text}" for match in _BANNED.finditer(text)]
    if texts and (mean := fmean(map(words, texts))) > limits.mean:
        found.append(f"{mean:.1f} words a sentence on average, {limits.mean:g} are allowed")
    return found


def words(text: str) -> int:
    """How many words a sentence has."""
    return sum(1 for word in text.split() if re.search(r"\w", word))


def _split(block: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])[\"')]*\s+", " ".join(block.split())) if part.strip()]


# -- pages


def of_markdown(text: str) -> list[str]:
    """The sentences of a page. Code, tables, headings and the targets of links are no prose."""
    text = _outside_blocks(text)
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]+`", _CODE, text).replace("**", "").replace("*", "")
    blocks: list[str] = []
    for line in text.splitlines():
        is_item = re.match(r"\s*(?:[-+] |\d+\. )", line)
        if not line.strip() or line.startswith(("#", "|")) or is_item or not blocks:
            blocks.append("")
        if not line.startswith(("#", "|")):
            blocks[-1] += f" {line[is_item.end() :] if is_item else line}"
    return [sentence for block in blocks for sentence in _split(block)]


def cells_of_markdown(text: str) -> list[str]:
    """The cells of a page's tables. They are no sentences, but they have words."""
    text = re.sub(r"`[^`\n]+`", _CODE, _outside_blocks(text))
    rows = re.findall(r"^\|(.+)\|$", text, re.MULTILINE)
    return [cell.strip() for row in rows for cell in row.split("|")]


def _outside_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)


# -- Python


def of_python(source: str) -> list[str]:
    """The sentences of a module's docstrings and comments."""
    return [sentence for block in (*_docstrings(source), *_comments(source)) for sentence in _split(block)]


def messages(source: str) -> list[str]:
    """The sentences of the texts that a module may show: string constants of four words or more, but no SQL.

    The parts of an f-string are one text, in which every value is one word.
    """
    tree = ast.parse(source)
    documents = {id(first.value) for node in _documented(tree) if isinstance(first := node.body[0], ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents | inner:
            texts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else _CODE for part in node.values))
    blocks = [re.sub(r"`[^`]+`", _CODE, block) for text in texts if not _SQL.match(text)
              for block in text.split("\n\n")]  # fmt: skip
    return [sentence for block in blocks if words(block) >= 4 for sentence in _split(block)]


def _documented(tree: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            yield node


def _docstrings(source: str) -> Iterator[str]:
    for node in _documented(ast.parse(source)):
        text = ast.get_docstring(node) or ""
        text = re.sub(r":\w+:`[^`]+`|``.+?``|`[^`]+`", _CODE, text, flags=re.DOTALL)
        for block in re.split(r"\n\s*\n|\n(?=- )", text):
            if not block.startswith("    "):  # an indented block is a table or an example
                yield block


def _comments(source: str) -> Iterator[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [token for token in tokens if token.type == tokenize.COMMENT]
    # Comments that stand below each other in one column are one text.
    for _, run in groupby(enumerate(found), lambda pair: (pair[1].start[0] - pair[0], pair[1].start[1])):
        text = " ".join(token.string.lstrip("#!").strip() for _, token in run)
        if not re.match(r"(?:noqa|fmt:|type:|mypy:|pragma:|ruff:)", text):
            yield re.sub(r"\s*# (?:noqa|type:).*", "", re.sub(r"`[^`]+`", _CODE, text))


# -- other files


def of_comments(text: str, marker: str) -> list[str]:
    """The sentences of comments that have lines of their own. Comments without a space or with several are no prose.

    The first are settings that are commented out, and the second are commands and tables.
    """
    prose_line = re.compile(rf"\s*{re.escape(marker)} (?! )(.*)")
    blocks = [""]
    for line in text.splitlines():
        found = prose_line.fullmatch(line)
        blocks.append("") if found is None else blocks.append(f"{blocks.pop()} {found[1]}")
    return [sentence for block in blocks for sentence in _split(re.sub(r"`[^`]+`", _CODE, block))]
