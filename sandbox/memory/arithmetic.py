"""Arithmetic of the double's shell: whole numbers, names and C's operators."""

from __future__ import annotations

import ast
from collections.abc import Callable

from sandbox.memory.syntax import Unsupported


def calculate(text: str, lookup: Callable[[str], int]) -> int:
    """C integer arithmetic, by way of Python's own parser; only numbers, names and operators pass."""

    def of(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            return lookup(node.id)
        if isinstance(node, ast.UnaryOp):
            value = of(node.operand)
            return {ast.USub: -value, ast.UAdd: value, ast.Invert: ~value, ast.Not: int(not value)}[
                type(node.op)
            ]
        if isinstance(node, ast.BinOp):
            return binary(type(node.op), of(node.left), of(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = of(node.left), of(node.comparators[0])
            table = {
                ast.Lt: left < right,
                ast.LtE: left <= right,
                ast.Gt: left > right,
                ast.GtE: left >= right,
                ast.Eq: left == right,
                ast.NotEq: left != right,
            }
            return int(table[type(node.ops[0])])
        raise Unsupported(f"arithmetic {text!r}")

    try:
        return of(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, KeyError, ZeroDivisionError) as exc:
        raise Unsupported(f"arithmetic {text!r}") from exc


def binary(operator: type[ast.operator], left: int, right: int) -> int:
    if operator in (ast.Div, ast.Mod):
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return quotient if operator is ast.Div else left - quotient * right
    simple: dict[type[ast.operator], Callable[[], int]] = {
        ast.Add: lambda: left + right,
        ast.Sub: lambda: left - right,
        ast.Mult: lambda: left * right,
        ast.LShift: lambda: left << right,
        ast.RShift: lambda: left >> right,
        ast.BitAnd: lambda: left & right,
        ast.BitOr: lambda: left | right,
        ast.BitXor: lambda: left ^ right,
    }
    return simple[operator]()
