"""Words on pages go through translation: no template and no script says anything in English by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

TEMPLATES = settings.BASE_DIR / "templates"
SCRIPTS = settings.BASE_DIR / "static" / "js"
PAGES = sorted(TEMPLATES.rglob("*.html"))
# The product's name, and what is printed on keyboards.
NAMES = re.compile(r"\b(Ratchet|Enter|Ctrl|Esc)\b")
TRANSLATED = re.compile(r"{% blocktranslate.*?{% endblocktranslate %}", re.DOTALL)
COMMENT = re.compile(r"{% comment %}.*?{% endcomment %}|{#.*?#}|<!--.*?-->", re.DOTALL)
# An example of a file is the same in every language.
EXAMPLE = re.compile(r"<pre\b[^>]*><code>.*?</code></pre>", re.DOTALL)
CLASSES = re.compile(r"{% block (?:page_class|theme) %}.*?{% endblock %}")
TEMPLATE_TAG = re.compile(r"{%.*?%}|{{.*?}}", re.DOTALL)
SPOKEN = re.compile(
    r"""\b(?:aria-label|aria-description|title|placeholder|alt|data-label-\w+)=("[^"]*"|'[^']*')"""
)
ELEMENT = re.compile(r"</?\s*[a-zA-Z!][^<>]*>", re.DOTALL)
WORD = re.compile(r"[^\W\d_]{2,}")
# A literal of a script that a person could read: a capital and another word, or the end of a sentence.
SENTENCE = re.compile(r"""(["'`])([A-Z][a-z]+ [a-z][^"'`]*|[A-Z][^"'`]*[a-z]\.)\1""")


def named(path: Path) -> str:
    return path.relative_to(settings.BASE_DIR).as_posix()


def bare_words(template: str) -> list[str]:
    """The words of a template that are not translated: in texts, and in attributes that are read aloud."""
    plain = template
    for part in (COMMENT, TRANSLATED, EXAMPLE, CLASSES, TEMPLATE_TAG):
        plain = part.sub(" ", plain)
    spoken = " ".join(SPOKEN.findall(plain))
    text = re.sub(r"&\w+;", " ", ELEMENT.sub(" ", plain))
    return WORD.findall(NAMES.sub(" ", f"{text} {spoken}"))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_templates_have_no_bare_words(page):
    assert bare_words(page.read_text()) == []


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("<p>Saved {{ count }} rows</p>", ["Saved", "rows"]),
        ('<p aria-label="Rows">{% translate "Saved" %}</p>', ["Rows"]),
        ('<a class="button" href="{% url \'x\' %}" title="{% translate \'Go\' %}">{# Go #}</a>', []),
        ('<pre tabindex="0"><code>{"prompt": "Why?"}</code></pre><pre>Why</pre>', ["Why"]),
        ("{% blocktranslate %}Saved {{ n }}{% endblocktranslate %} <kbd>Esc</kbd>", []),
    ],
)
def test_bare_words_are_found(template, found):
    assert bare_words(template) == found


@pytest.mark.parametrize("script", sorted(SCRIPTS.rglob("*.js")), ids=named)
def test_scripts_take_their_words_from_the_page(script):
    assert sentences(script.read_text()) == []


def sentences(script: str) -> list[str]:
    """The literals of a script that a person could read; comments aside."""
    return [words for _quote, words in SENTENCE.findall(re.sub(r"(?m)(^|\s)//.*$", "", script))]


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ('tell("Not saved"); // "Not saved"', ["Not saved"]),
        ("tell(`Saved.`)", ["Saved."]),
        ('key === "Escape" && act("escape")', []),
    ],
)
def test_sentences_are_found(script, found):
    assert sentences(script) == found
