"""Templates to pages: everything that comes from data is escaped, everything that a page needs lies in it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

#: What a page may load: what lies in it, and images beside it.
_POLICY = (
    "default-src 'none'; img-src data: {images}; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def render_page(template: str, *, images_beside: bool = False, **values: Any) -> str:
    """Fill a template of ``templates/``.

    Args:
        template: Its name. It extends ``base.html``, which has the blocks ``header``, ``main`` and ``scripts``.
        images_beside: Whether images lie in a folder beside the page.
        values: What it needs, ``title`` among it; text is escaped.
    """
    policy = _POLICY.format(images="file: 'self'" if images_beside else "").replace(" ;", ";")
    return _environment().get_template(template).render(policy=policy, **values)


def script_json(value: Any) -> Markup:
    r"""A value as JSON in a ``<script type="application/json">``, which nothing in it can end.

    Examples:
        >>> script_json({"name": "</script><b>"})
        Markup('{"name":"\\u003c/script\\u003e\\u003cb\\u003e"}')
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    # All that HTML could read as something else stands within a string, where an escape means the same.
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Markup(text)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = PackageLoader("vreid_cli.reports.pages")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

    def trusted(name: str) -> Markup:
        """A style sheet or a script of our own."""
        return Markup(loader.get_source(found, name)[0])

    found.globals["trusted"] = trusted
    found.filters["script_json"] = script_json
    return found
