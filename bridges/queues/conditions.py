"""Conditions of rules: expressions such as `payload.temperature > 60 and properties.site == "n"`.

The syntax is a small part of Python's; simpleeval does the evaluating. Rule kept here: an
expression consists of what the table of nodes allows and knows its names, or it is refused when it
is read; so at run time only the message can be at fault, and that is a Miss. What cannot be said of
a message spoils no more than it must: `a or b` holds when b does, whatever a is.
"""

from __future__ import annotations

import ast
import operator
import warnings
from typing import TYPE_CHECKING, Any, Final

from simpleeval import EvalWithCompoundTypes, InvalidExpression

from bridges.queues.subject import NAMES, Miss
from broker.settings.words import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bridges.queues.subject import Subject


class ConditionError(Exception):
    """An expression cannot be used; the text says why and what would be right."""


# Whatever a message can make of a good expression. RecursionError: a comparison of what is nested
# deeply.
MISSES: Final = (
    Miss,
    InvalidExpression,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
)


class Condition:
    """One expression, ready to be asked."""

    __slots__ = ("_evaluator", "_tree", "names", "text")

    def __init__(self, text: str) -> None:
        """Raises ConditionError."""
        self.text = text
        self._tree = _parse(text)
        self._evaluator = _Evaluator()
        self.names = frozenset(
            node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)
        )

    def holds(self, subject: Subject) -> bool:
        """Whether it is true of a message. Raises Miss when that cannot be said."""
        return bool(self._value(self._tree, subject))

    def found(self, subject: Subject) -> Iterator[tuple[str, str]]:
        """What the message has for each thing that the expression looks at, for people."""
        for node in _looked_at(self._tree):
            try:
                value = repr(self._value(node, subject))
            except Miss as miss:
                value = str(miss)
            yield ast.unparse(node), value if len(value) <= 100 else value[:100] + "..."

    def _value(self, node: ast.expr, subject: Subject) -> Any:
        evaluator = self._evaluator
        evaluator.names = subject
        try:
            return evaluator.eval(self.text, node)
        except MISSES as error:
            raise error if isinstance(error, Miss) else Miss(_reason(error)) from error
        finally:
            evaluator.names = _NOBODY


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).partition("\n")[0][:200]


# ---- evaluating ----


def _only_numbers(calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Arithmetic that takes no texts: "%9999999d" % 1 and "x" * 9999999 would cost memory."""

    def calculated(left: object, right: object) -> Any:
        if isinstance(left, int | float) and isinstance(right, int | float):
            return calculate(left, right)
        raise Miss(f"no arithmetic with {_kind(left)} and {_kind(right)}")

    return calculated


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compared(left: object, right: object) -> Any:
        try:
            return compare(left, right)
        except TypeError:
            raise Miss(f"{_kind(left)} and {_kind(right)} cannot be compared") from None

    return compared


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "this")


_KINDS: Final = {
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}

OPERATORS: Final[Mapping[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: _only_numbers(operator.add),
    ast.Sub: _only_numbers(operator.sub),
    ast.Mult: _only_numbers(operator.mul),
    ast.Div: _only_numbers(operator.truediv),
    ast.FloorDiv: _only_numbers(operator.floordiv),
    ast.Mod: _only_numbers(operator.mod),
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: _compared(operator.lt),
    ast.LtE: _compared(operator.le),
    ast.Gt: _compared(operator.gt),
    ast.GtE: _compared(operator.ge),
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
}


def _number(value: object) -> float:
    if isinstance(value, str):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise Miss(f"{_kind(value)} is not a number")


# name -> what it does, and how many values it takes
FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Any], int]]] = {
    "len": (len, 1),
    "lower": (str.lower, 1),
    "number": (_number, 1),
    "starts_with": (str.startswith, 2),
    "ends_with": (str.endswith, 2),
}


class _Evaluator(EvalWithCompoundTypes):  # type: ignore[misc] # the library has no types
    """simpleeval with fields of JSON for attributes, and the logic of what is not known."""

    names: Any

    def __init__(self) -> None:
        functions = {name: function for name, (function, _) in FUNCTIONS.items()}
        super().__init__(dict(OPERATORS), functions, _NOBODY)
        self.nodes[ast.Attribute] = self._eval_field
        self.nodes[ast.Subscript] = self._eval_element
        self.nodes[ast.BoolOp] = self._eval_logic

    def _check_disallowed_items(self, item: object) -> None:
        """Looks for functions and modules in every value, however large. What comes here is made
        of JSON, so there are none.
        """

    def _eval_field(self, node: ast.Attribute) -> Any:
        container = self._eval(node.value)
        if isinstance(container, dict) and node.attr in container:
            return container[node.attr]
        raise Miss(f"there is no field {node.attr}")

    def _eval_element(self, node: ast.Subscript) -> Any:
        container, index = self._eval(node.value), self._eval(node.slice)
        try:
            return container[index]
        except (LookupError, TypeError):
            raise Miss(f"there is no [{index!r:.60}]") from None

    def _eval_logic(self, node: ast.BoolOp) -> bool:
        decisive = isinstance(node.op, ast.Or)  # one of these decides, whatever the others are
        unknown: Exception | None = None
        for value in node.values:
            try:
                if bool(self._eval(value)) is decisive:
                    return decisive
            except MISSES as error:
                unknown = error
        if unknown is not None:
            raise unknown
        return not decisive


_NOBODY: Final[Mapping[str, Any]] = {}


# ---- reading ----

ALLOWED: Final = (
    *(ast.expr_context, ast.boolop, ast.Constant, ast.Name, ast.Attribute, ast.Subscript),
    *(ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call, ast.List, ast.Tuple),
    *OPERATORS,
)
CONSTANTS: Final = {"true": True, "false": False, "null": None}
DEEPEST = 64  # levels of an expression
HINTS: Final = {
    "&&": 'write "and" for "&&"',
    "||": 'write "or" for "||"',
    "!": 'write "not" for "!"',
    "=": 'write "==" to compare',
}


def _parse(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in texts: they mean what they say
            tree: ast.expr = ast.parse(text, mode="eval").body
        tree = _Constants().visit(tree)
        _check_depth(tree)
        for node in ast.walk(tree):
            _check(node, text)
        _check_names(tree)
    except SyntaxError as error:
        raise ConditionError(_complaint(text, error)) from None
    except (RecursionError, MemoryError, ValueError) as error:
        raise ConditionError("is nested too deeply: write several routes instead") from error
    return tree


def _complaint(text: str, error: SyntaxError) -> str:
    place = f"at character {error.offset}" if error.offset else "at its end"
    bare = text.replace("==", "").replace("!=", "").replace("<=", "").replace(">=", "")
    hint = next((hint for sign, hint in HINTS.items() if sign in bare), "")
    good = hint or "write a condition such as payload.temperature > 60 and qos == 1"
    return f"is not a condition ({error.msg} {place}): {good}"


class _Constants(ast.NodeTransformer):
    """true, false and null as in JSON."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in CONSTANTS:
            return ast.copy_location(ast.Constant(CONSTANTS[node.id]), node)
        return node


def _check(node: ast.AST, text: str) -> None:
    if not isinstance(node, ALLOWED):
        shown = ast.get_source_segment(text, node) if isinstance(node, ast.expr) else None
        what = f'"{shown}"' if shown else type(node).__name__.lower()
        raise ConditionError(
            f"has {what}, which is too much: compare values, and join with and, or"
        )
    if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | None):
        raise ConditionError(f"has {node.value!r}, which no message can be compared with")
    if isinstance(node, ast.Call):
        _check_call(node)


def _check_depth(tree: ast.expr) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise RecursionError


def _check_names(tree: ast.expr) -> None:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in NAMES and id(node) not in called:
            known = did_you_mean(node.id, NAMES)
            raise ConditionError(
                f"knows no {node.id}: write payload.{node.id} for a field of the payload; {known}"
            )


def _check_call(node: ast.Call) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in FUNCTIONS:
        shown = ast.unparse(node.func)
        raise ConditionError(f"knows no function {shown}: {did_you_mean(shown, FUNCTIONS)}")
    needed = FUNCTIONS[name][1]
    if len(node.args) != needed or node.keywords:
        raise ConditionError(f"{name}() takes {needed} value{'s' if needed > 1 else ''}")


def _looked_at(node: ast.AST) -> Iterator[ast.expr]:
    """The names and paths in an expression, as long as they are."""
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        yield node
        return
    children = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
    for child in children:
        yield from _looked_at(child)
