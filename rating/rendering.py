"""The only way from people's and models' texts to HTML: Markdown, then code colours, then an allow-list.

Texts are hostile. markdown-it writes the HTML and lets none of the text's own HTML through, Pygments marks
code with classes, and nh3 (ammonia) has the last word on what is left. The Content-Security-Policy stands
behind it.

`python -m rating.rendering` writes the colours of code, which are the end of static/css/ratchet.css.
"""

import html
import re
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from typing import Any

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES, Comment, Generic, Keyword, Name, Number, Operator, String

from rating.formulas import add_formulas

# Bounds that keep the worst text under a second: parsing, nesting and tables grow faster than the text.
MAX_MARKDOWN = 50_000
MAX_NESTING = 40
MAX_TOKENS = 20_000
MAX_CELLS = 50_000
MAX_HIGHLIGHTED = 4_000
# What is cached is bounded in bytes too: 256 texts of at most 8,000 characters.
MAX_CACHED = 8_000
CACHED_TEXTS = 256

# Languages whose lexers stay quick on hostile code too; those of C, C++ and C# take seconds.
LANGUAGES = {
    "bash", "css", "diff", "go", "html", "java", "javascript", "json", "kotlin", "php", "python", "ruby",
    "rust", "sql", "swift", "toml", "typescript", "xml", "yaml",
}  # fmt: skip
SHORT_NAMES = {
    "js": "javascript",
    "py": "python",
    "rb": "ruby",
    "rs": "rust",
    "sh": "bash",
    "ts": "typescript",
}
BLOCKS = ("p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "blockquote", "td", "th", "pre")
INLINE = ("ul", "ol", "code", "span", "table", "thead", "tbody", "tr", "em", "strong", "s", "a", "br", "hr")
ATTRIBUTES: dict[str, set[str]] = {
    "*": set(),
    "pre": {"class"},
    "code": {"class"},
    "span": {"class", "data-display"},
    "ol": {"start"},
    "a": {"href"},
}
# Each block finds its own direction, so bidirectional controls in one never turn its neighbours.
ADDED_ATTRIBUTES = {**{block: {"dir": "auto"} for block in BLOCKS}, "a": {"target": "_blank"}}
LINK_SCHEMES = {"http", "https", "mailto"}
LINK_REL = "noopener noreferrer nofollow"

# Kinds of tokens and the token of static/css/ratchet.css that colours them; a kind's children follow it.
CODE_COLOURS = {
    Comment: "muted",
    Keyword: "accent",
    Operator.Word: "accent",
    Name.Tag: "accent",
    Name.Function: "series-3",
    Name.Class: "series-3",
    Name.Decorator: "series-3",
    Name.Attribute: "warn",
    Number: "warn",
    String: "good",
    Generic.Inserted: "good",
    Generic.Deleted: "bad",
    Generic.Heading: "accent",
    Generic.Subheading: "accent",
}

# A NUL cannot be shown and a lone surrogate cannot be encoded: both become the replacement character.
_UNSHOWABLE = re.compile("[\x00\ud800-\udfff]")
_FORMATTER: HtmlFormatter[str] = HtmlFormatter(nowrap=True, classprefix="tok-")


def render_markdown(text: str) -> SafeString:
    """The text as safe HTML blocks, each with `dir="auto"`; never raises for any `str`.

    A text that is too long (50,000 characters), too deep (40 levels) or too intricate (20,000 elements,
    50,000 table cells) to be read as Markdown, and one of which nothing would be seen, is shown as it was
    written, in `<pre class="plain">`. NUL and lone surrogates are shown as U+FFFD. Links lead to http, https
    and mailto only; images are shown as links.
    """
    shown = _UNSHOWABLE.sub("\ufffd", text)
    return _render_cached(shown) if len(shown) <= MAX_CACHED else _render(shown)


def _render(text: str) -> SafeString:
    if len(text) > MAX_MARKDOWN or _most_cells(text) > MAX_CELLS:
        return _plain(text)
    parser, env = _parser(), {"highlighted": 0}
    tokens = parser.parse(text, env)
    if len(tokens) > MAX_TOKENS or any(token.level >= MAX_NESTING - 1 for token in tokens):
        return _plain(text)
    clean = nh3.clean(
        parser.renderer.render(tokens, parser.options, env),
        tags={*BLOCKS, *INLINE},
        attributes=ATTRIBUTES,
        set_tag_attribute_values=ADDED_ATTRIBUTES,
        url_schemes=LINK_SCHEMES,
        url_relative="deny",
        link_rel=LINK_REL,
    )
    if not clean.strip():
        return _plain(text)
    return mark_safe(clean)  # noqa: S308  # cleaned by the allow-list


# Keyed by the content itself: functools hashes it, and equal texts, not only equal hashes, share an entry.
_render_cached = lru_cache(maxsize=CACHED_TEXTS)(_render)


def _most_cells(text: str) -> int:
    """At most so many cells a table in the text has: short rows are filled up to the header's width."""
    lines = text.split("\n")
    return len(lines) * max(line.count("|") for line in lines)


def _plain(text: str) -> SafeString:
    return mark_safe(f'<pre class="plain" dir="auto">{html.escape(text)}</pre>')  # noqa: S308  # escaped


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    """One parser for the process: it keeps no state of a text. A line break in a text is one on the page."""
    options = {
        "html": False,
        "linkify": False,
        "typographer": False,
        "breaks": True,
        "maxNesting": MAX_NESTING,
    }
    parser = MarkdownIt("js-default", options).enable("table").disable("image")
    parser.add_render_rule("fence", _fence)
    add_formulas(parser)
    return parser


def _fence(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    """A code block: coloured when its language is known, until the text's share of colouring is spent."""
    code, words = tokens[index].content, tokens[index].info.split()
    name = words[0].lower() if words else ""
    language = SHORT_NAMES.get(name, name)
    if language not in LANGUAGES or env["highlighted"] + len(code) > MAX_HIGHLIGHTED:
        return f"<pre><code>{html.escape(code)}</code></pre>\n"
    env["highlighted"] += len(code)
    marked = highlight(code, get_lexer_by_name(language), _FORMATTER)
    return f'<pre><code class="language-{language}">{marked}</code></pre>\n'


def code_styles() -> str:
    """The style sheet of code: our own tokens as colours, so one sheet serves both themes."""
    classes: dict[str, list[str]] = {}
    for kind, name in STANDARD_TYPES.items():
        colour = next((CODE_COLOURS[part] for part in reversed(kind.split()) if part in CODE_COLOURS), "")
        if name and colour:
            classes.setdefault(colour, []).append(f".tok-{name}")
    rules = [f"{', '.join(sorted(names))} {{ color: var(--{colour}); }}" for colour, names in classes.items()]
    head = "/* Colours of code, written by `python -m rating.rendering`: change them there. */"
    return "\n\n".join([head, *rules]) + "\n"


if __name__ == "__main__":
    print(code_styles(), end="")
