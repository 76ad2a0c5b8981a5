"""Responses that say who wrote them are told from those that only speak of models."""

import io
import json
import time

import pytest
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from rating.models import Completion
from rating.services import makers
from rating.services.imports import import_file
from rating.services.makers import names_maker
from tests.factories import make_completion, make_prompt

NAMING = [
    "As an AI language model developed by OpenAI, I cannot do that.",
    "I am Claude, made by Anthropic.",
    "I'm Claude. How may I help?",
    "I’m ChatGPT, and I like tea.",
    "Hello! My name is Vicuna, and I'm a language model trained by researchers from LMSYS.",
    "I'm Bard, your creative collaborator.",
    "I am a large language model, trained by Google.",
    "I am an AI assistant created by Anthropic to be helpful.",
    "I was created by OpenAI in 2022.",
    "I was trained by a team of researchers at Meta AI.",
    "As ChatGPT, I have no feelings.",
    "OpenAI made me.",
    "I'm an AI assistant named Claude.",
    "I am Qwen, created by Alibaba Cloud.",
    "I am Open Assistant.",
    "我是ChatGPT,一个人工智能助手。",
    "我是由 OpenAI 训练的模型。",
]
SILENT = [
    "",
    "As an AI language model, I cannot do that.",
    "Claude was made by Anthropic, and ChatGPT by OpenAI.",
    "The bard sang of Gemini and the falcon.",
    "I am a big fan of Google.",
    "I am using Gemini at work; as for Claude Monet, he painted lilies.",
    "I was born in Meta, Mississippi.",
    "I bought an apple, and I am content.",
    "I am an engineer, and I work at Microsoft.",
    "My name is Ada.",
    "I am an assistant at a bank.",
]


@pytest.mark.parametrize("text", NAMING)
def test_text_that_names_its_maker_is_caught(text):
    assert names_maker(text)
    assert names_maker("Some words before.\n\n" + text.upper() + " And after.")


@pytest.mark.parametrize("text", SILENT)
def test_text_that_does_not_is_left_alone(text):
    assert not names_maker(text)


@pytest.mark.parametrize(
    "piece", ["I am a gpt x ", "as an ai model ", "i'm ", "openai ", "a" * 60 + " ", "I am the "]
)
def test_no_text_takes_long(piece):
    started = time.process_time()
    names_maker(piece * (60_000 // len(piece)))
    assert time.process_time() - started < 1.0


def import_rows(project, *rows):
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    return import_file(project, io.BytesIO(lines))


def test_import_marks_them_and_says_so(project):
    report = import_rows(
        project,
        {"prompt": "Who are you?", "responses": ["A helper.", "I am Claude, made by Anthropic."]},
        {"prompt": "What is tea?", "responses": ["A drink.", "A plant."]},
        {"prompt": "And you?", "response": "I was trained by OpenAI."},
    )
    marked = Completion.objects.filter(names_maker=True)
    assert set(marked.values_list("text", flat=True)) == {
        "I am Claude, made by Anthropic.",
        "I was trained by OpenAI.",
    }
    tally = report.noted["names_maker"]
    assert (tally.count, tally.lines) == (2, [1, 3])
    assert any("names its own maker" in words for words, _ in report.remarks())


def test_judged_transcripts_are_looked_through_too(project):
    told = "\n\nHuman: Hello\n\nAssistant: I am ChatGPT."
    report = import_rows(project, {"chosen": told, "rejected": "\n\nHuman: Hello\n\nAssistant: What?"})
    assert Completion.objects.get(names_maker=True).text.strip() == "I am ChatGPT."
    assert report.noted["names_maker"].count == 1


def test_what_our_models_write_is_marked_too(project):
    prompt = make_prompt(project)
    assert make_completion(prompt, "I am Claude.").names_maker
    assert not make_completion(prompt, "A helper.").names_maker


def test_admin_lists_them(project, client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("root"))
    prompt = make_prompt(project)
    told, other = make_completion(prompt, "I am Claude."), make_completion(prompt, "A helper.")
    page = client.get(
        reverse("admin:rating_completion_changelist"), {"names_maker__exact": "1"}
    ).content.decode()
    assert reverse("admin:rating_completion_change", args=[told.pk]) in page
    assert reverse("admin:rating_completion_change", args=[other.pk]) not in page


PIECES = [*NAMING, *SILENT, "OpenAI", "X.AI", "x ai", "Meta AI", "HuggingFace", "lm-sys", "chat glm", "Phi-3"]
PIECES += [
    "01.AI",
    "GPT4o",
    "I am",
    "as",
    "我是",
    "made me",
    "I was trained by",
    "’s language model, I",
    ", ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=5), st.sampled_from([" ", "", "\n", "é", "_", "7"]))
def test_the_sieves_let_through_all_that_the_patterns_catch(pieces, between):
    text = between.join(pieces)
    assert names_maker(text) == (makers._NAMES_MAKER.search(text) is not None)
