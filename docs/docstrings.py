"""What a docstring of vreid says in another way than mkdocstrings expects; mkdocs.yml names this file."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """``Example:`` is the section that others call ``Examples:``; a reference such as ``:func:`rank``` is a name."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one module, class or function."""
        if obj.docstring is None:
            return
        text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = re.sub(r":(?:class|func|meth|mod|attr|data):`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
