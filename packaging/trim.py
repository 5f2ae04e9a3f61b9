"""Leave out of vendored modules what is for people who debug them: the blocks `if _debug:`,
docstrings and comments. It is a third of bacpypes3.

    python3 packaging/trim.py FOLDER
"""

import ast
import sys
from pathlib import Path


class Trim(ast.NodeTransformer):
    """Takes out docstrings and what runs only while somebody debugs."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Keep of `if _debug:` what runs otherwise."""
        if isinstance(node.test, ast.Name) and node.test.id == "_debug":
            return [kept for other in node.orelse for kept in as_list(self.visit(other))]
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Keep every block a block."""
        documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]
        if isinstance(node, ast.Try) and not (node.handlers or node.finalbody):
            node.finalbody = [ast.Pass()]
        return node


def as_list(visited: ast.AST | list[ast.stmt] | None) -> list[ast.AST]:
    """Return what a visit left of a statement."""
    if visited is None:
        return []
    return visited if isinstance(visited, list) else [visited]


if __name__ == "__main__":
    for module in Path(sys.argv[1]).rglob("*.py"):
        trimmed = Trim().visit(ast.parse(module.read_bytes()))
        module.write_text(ast.unparse(ast.fix_missing_locations(trimmed)) + "\n")
