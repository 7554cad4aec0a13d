"""The filter language's form: text -> tree. A subset of AIP-160; what the names and values mean is serving/filters.py.

expression = sequence { "AND" sequence }      sequence = factor { factor }, the same as AND
factor     = term { "OR" term }               OR binds tighter than AND, as AIP-160 has it
term       = [ "NOT" | "-" ] ( "(" expression ")" | name operator value )
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from reco.errors.v1 import error_reason_pb2

from runtime.errors import CallerError
from serving import limits

OPERATORS = ("!=", "<=", ">=", "=", "<", ">", ":")
_KEYWORDS = ("AND", "OR", "NOT")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<time>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?(?![\w.:+-]))
    |(?P<operator>!=|<=|>=|=|<|>|:)
    |(?P<bracket>[()])
    |(?P<number>-\.?\d[\w.+-]*)
    |(?P<minus>-)
    |(?P<word>[^\s()"'=<>!:,-][^\s()"'=<>!:,]*)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """One token and where it starts, in characters."""

    kind: str
    text: str
    position: int


@dataclass(frozen=True)
class Comparison:
    """`name operator value`; positions are those of the name and of the value."""

    name: str
    operator: str
    value: str
    quoted: bool
    position: int
    value_position: int

    def __str__(self) -> str:
        value = (
            '"' + self.value.replace("\\", "\\\\").replace('"', '\\"') + '"' if self.quoted else self.value
        )
        return f"{self.name}{self.operator}{value}"


@dataclass(frozen=True)
class Not:
    """The opposite."""

    inner: Node

    def __str__(self) -> str:
        return f"-({self.inner})"


@dataclass(frozen=True)
class Junction:
    """All of the parts ("AND"), or any ("OR"); at least two."""

    word: str
    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return f" {self.word} ".join(f"({part})" for part in self.parts)


Node = Comparison | Not | Junction


def filter_error(position: int, description: str) -> CallerError:
    """The caller's error: what is wrong with the filter, and where."""
    metadata = {"field": "filter", "position": str(position), "description": description}
    message = f"filter, at position {position}: {description}"
    return CallerError(error_reason_pb2.ERROR_REASON_FILTER_INVALID, message, metadata)


@lru_cache(maxsize=limits.FILTER_PARSED_COUNT_MAX)
def parse(text: str) -> Node | None:
    """The filter's tree, None for an empty one. `str()` of it is its normal form. CallerError FILTER_INVALID."""
    tokens = _tokens(text)
    if tokens[0].kind == "end":
        return None
    reader = _Reader(tokens)
    node = reader.expression(0)
    rest = reader.peek()
    if rest.kind != "end":
        raise filter_error(rest.position, f"unexpected {rest.text!r}")
    return node


@lru_cache(maxsize=limits.FILTER_PARSED_COUNT_MAX)
def normal_form(text: str) -> str:
    """The same text for filters that differ in spaces and quotes alone; "" for an empty one. CallerError FILTER_INVALID."""
    node = parse(text)
    return str(node) if node else ""


def _tokens(text: str) -> list[Token]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise filter_error(at, _unreadable(text[at]))
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(Token(_KIND.get(match[0], kind), match[0], at))
        at = match.end()
    return [*tokens, Token("end", "the end", len(text))]


_KIND = {word: word for word in _KEYWORDS}


def _unreadable(char: str) -> str:
    return "the quote is never closed" if char in "\"'" else f"unexpected {char!r}"


class _Reader:
    """Reads tokens by recursive descent."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> Token:
        return self._tokens[self._at]

    def next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def expression(self, depth: int) -> Node:
        if depth > limits.FILTER_DEPTH_MAX:
            raise filter_error(
                self.peek().position, f"more than {limits.FILTER_DEPTH_MAX} nested parentheses"
            )
        parts = [self._factor(depth)]
        while self.peek().kind not in ("end", "OR") and self.peek().text != ")":
            if self.peek().kind == "AND":
                self.next()
            parts.append(self._factor(depth))
        return parts[0] if len(parts) == 1 else Junction("AND", tuple(parts))

    def _factor(self, depth: int) -> Node:
        parts = [self._term(depth)]
        while self.peek().kind == "OR":
            self.next()
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else Junction("OR", tuple(parts))

    def _term(self, depth: int) -> Node:
        if self.peek().kind in ("NOT", "minus"):
            self.next()
            return Not(self._simple(depth))
        return self._simple(depth)

    def _simple(self, depth: int) -> Node:
        token = self.next()
        if token.text == "(" and token.kind == "bracket":
            node = self.expression(depth + 1)
            closing = self.next()
            if closing.text != ")":
                raise filter_error(closing.position, f"expected ')' for the '(' at position {token.position}")
            return node
        return self._comparison(token)

    def _comparison(self, name: Token) -> Comparison:
        if name.kind != "word":
            raise filter_error(name.position, f"expected the name of an attribute, found {name.text!r}")
        operator = self.next()
        if operator.kind != "operator":
            raise filter_error(
                operator.position, f"expected one of {' '.join(OPERATORS)} after {name.text!r}"
            )
        value = self.next()
        if value.kind not in ("word", "number", "time", "quoted"):
            raise filter_error(value.position, f"expected a value after {operator.text!r}")
        quoted = value.kind == "quoted"
        text = re.sub(r"\\(.)", r"\1", value.text[1:-1]) if quoted else value.text
        return Comparison(name.text, operator.text, text, quoted, name.position, value.position)
