"""Formulas in Markdown: `$x$` and `\\(x\\)` in a line, `$$x$$` and `\\[x\\]` on their own.

They become `<span class="math" data-display="true|false">` with the escaped source, signs and all: without a
script a reader sees what was written. The page's script draws them with KaTeX.
"""

import html
import re
from collections.abc import MutableMapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

MAX_FORMULA = 2_000
CLOSERS = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
DISPLAYED = ("$$", "\\[")
ENDS = {opener: re.compile(re.escape(CLOSERS[opener]) + r"[ \t]*$", re.MULTILINE) for opener in DISPLAYED}


def add_formulas(parser: MarkdownIt) -> None:
    """Teach the parser formulas; they come before its escapes, which would eat the backslashes."""
    parser.inline.ruler.before("escape", "formula", _inline)
    parser.block.ruler.before("fence", "formula", _block, {"alt": ["paragraph", "blockquote", "list"]})
    parser.add_render_rule("formula", _render)


def _inline(state: StateInline, silent: bool) -> bool:
    start, text = state.pos, state.src
    if text[start] not in "$\\":
        return False
    opener = next((one for one in CLOSERS if text.startswith(one, start)), None)
    if opener is None:
        return False
    end = _closing(text, start + len(opener), min(state.posMax, start + MAX_FORMULA), opener)
    if end < 0:
        return False
    if not silent:
        token = state.push("formula", "span", 0)
        token.content, token.meta = text[start:end], {"display": opener in DISPLAYED}
    state.pos = end
    return True


def _closing(text: str, start: int, stop: int, opener: str) -> int:
    """Where the formula that begins at `start` ends, its closing sign included; -1 when it is none.

    A single dollar sign is money unless it stands close to the formula on the inside and before no digit.
    """
    closer, place = CLOSERS[opener], start
    while (place := text.find(closer, place, stop)) >= 0:
        if text[place - 1] == "\\" and closer[0] == "$":
            place += 1
            continue
        break
    if place < 0 or not text[start:place].strip():
        return -1
    end = place + len(closer)
    if opener == "$":
        inside, after = text[start:place], text[end : end + 1]
        if inside[0].isspace() or inside[-1].isspace() or after.isdigit() or "\n\n" in inside:
            return -1
    return end


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Lines from one that begins with `$$` or `\\[` to one that ends with its counterpart."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    opener = next((one for one in DISPLAYED if first.startswith(one)), None)
    if opener is None or state.is_code_block(start):
        return False
    begin = state.bMarks[start] + state.tShift[start]
    found = ENDS[opener].search(state.src, begin + len(opener), begin + MAX_FORMULA)
    if found is None or not state.src[begin + len(opener) : found.start()].strip():
        return False
    last = start
    while last < end and state.eMarks[last] < found.start():
        last += 1
    if last == end or any(state.sCount[line] < state.blkIndent for line in range(start, last + 1)):
        return False
    lines = state.getLines(start, last + 1, state.blkIndent, False).split("\n")
    whole = "\n".join(line.strip() for line in lines)
    if not silent:
        state.line = last + 1
        state.push("paragraph_open", "p", 1)
        token = state.push("formula", "span", 0)
        token.content, token.meta, token.map = whole, {"display": True}, [start, state.line]
        state.push("paragraph_close", "p", -1)
    return True


def _render(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    token = tokens[index]
    display = "true" if token.meta["display"] else "false"
    return f'<span class="math" data-display="{display}">{html.escape(token.content)}</span>'
