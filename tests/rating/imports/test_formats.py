"""Each format is recognised by its first rows and read into the same few things."""

import json

import pytest

from rating.models import Completion, Item, Judgment, Prompt, Rater, Rating
from rating.services.imports.formats import BY_NAME, KNOWN, recognise
from tests.factories import make_project
from tests.rating.imports.files import counts, hh, jsonl, take

pytestmark = pytest.mark.django_db


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


BATTLE = {
    "question_id": 81,
    "model_a": "ada",
    "model_b": "bob",
    "winner": "model_b",
    "judge": "expert_3",
    "turn": 1,
    "conversation_a": [user("Q"), assistant("x"), user("And?"), assistant("xx")],
    "conversation_b": [user("Q"), assistant("y"), user("And?"), assistant("yy")],
}
ROWS = {
    "hh-rlhf": hh("Q", "good", "bad"),
    "trl-preference": {"prompt": "Q", "chosen": "good", "rejected": "bad"},
    "trl-unpaired": {"prompt": "Q", "completion": "good", "label": True},
    "trl-completion": {"prompt": "Q", "completion": "good"},
    "ranking": {"prompt": "Q", "completions": ["x", "y", "z"], "ranks": [2, 1, 2]},
    "openai-chat": {"messages": [user("Q"), assistant("good")]},
    "openai-preference": {
        "input": {"messages": [user("Q")], "tools": []},
        "preferred_output": [assistant("good")],
        "non_preferred_output": [assistant("bad")],
    },
    "alpaca": {"instruction": "Q", "input": "", "output": "good"},
    "self-instruct": {"instruction": "Q", "instances": [{"input": "", "output": "good"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "good"}]},
    "mt-bench-questions": {"question_id": 81, "category": "writing", "turns": ["Q", "And?"]},
    "mt-bench-answers": {
        "question_id": 81,
        "model_id": "ada",
        "choices": [{"index": 0, "turns": ["x", "xx"]}],
    },
    "mt-bench-votes": BATTLE,
    "arena": {
        "model_a": "ada",
        "model_b": "bob",
        "winner": "model_b",
        "conversation_a": [user("Q"), assistant("x")],
        "conversation_b": [user("Q"), assistant("y")],
    },
    "pandalm": {"instruction": "Q", "input": "", "response1": "x", "response2": "y", "annotator1": 2},
    "argilla": {
        "id": "1",
        "fields": {"prompt": "Q", "response-1": "x", "response-2": "y"},
        "responses": {"preference": [{"value": "response-2", "user_id": "u1", "status": "submitted"}]},
    },
    "label-studio": {
        "id": 1,
        "data": {"prompt": "Q", "answer1": "x", "answer2": "y"},
        "annotations": [
            {"completed_by": 4, "result": [{"type": "pairwise", "value": {"selected": "right"}}]}
        ],
    },
    "oasst-sampling": {"prompt": "Q", "results": [{"sampling_config": "k50", "outputs": ["x", "y"]}]},
    "responses": {"prompt": "Q", "responses": ["x", "y"]},
}


def test_every_format_has_a_sample():
    assert set(ROWS) == set(BY_NAME)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_row_is_recognised_as_what_it_is(name):
    assert recognise([ROWS[name]]) is BY_NAME[name]


def test_what_is_no_format_is_recognised_as_none():
    assert recognise([]) is None
    assert recognise([{"one": 1}]) is None
    assert len({known.name for known in KNOWN}) == len(KNOWN)


@pytest.mark.parametrize("name", sorted(set(ROWS) - {"mt-bench-answers"}))
def test_a_row_goes_in_by_itself_and_once(project, name):
    if name == "mt-bench-votes":
        take(project, jsonl(ROWS["mt-bench-questions"]))
    report = take(project, jsonl(ROWS[name]))
    assert (report.format, report.taken) == (name, 1)
    before = counts()
    assert take(project, jsonl(ROWS[name]), format=name).taken == 0
    assert counts() == before
    assert Prompt.objects.filter(messages=[user("Q")]).count() == 1


def told(project, *rows, **options):
    """What raters said after the rows are in: (rater, choice, preferred text, ranking in texts, rating)."""
    take(project, jsonl(*rows), **options)
    texts = dict(Completion.objects.values_list("pk", "text"))
    ratings = dict(Rating.objects.values_list("judgment_id", "value"))
    return [
        (
            judgment.rater.external_id,
            judgment.preferred.text if judgment.preferred else judgment.choice,
            judgment.ranking and [sorted(texts[pk] for pk in group) for group in judgment.ranking],
            ratings.get(judgment.pk),
        )
        for judgment in Judgment.objects.select_related("rater", "preferred").order_by("pk")
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ROWS["trl-preference"], ("trl", "good", None, None)),
        ({"chosen": "So? Yes it is.", "rejected": "So? Not at all."}, ("trl", "Yes it is.", None, None)),
        (
            {"chosen": [user("Q"), assistant("good")], "rejected": [user("Q"), assistant("bad")]},
            ("trl", "good", None, None),
        ),
        (
            {"prompt": [user("Q")], "chosen": [assistant("good")], "rejected": [assistant("bad")],
             "rater": "r7"},
            ("trl/r7", "good", None, None),
        ),
        (
            {"prompt": "Q", "chosen": [user("Q"), assistant("good")],
             "rejected": [user("Q"), assistant("bad")]},
            ("trl", "good", None, None),
        ),
        (ROWS["trl-unpaired"], ("trl", "", None, 5)),
        ({**ROWS["trl-unpaired"], "label": False}, ("trl", "", None, 1)),
        ({"messages": [user("Q"), assistant("x")], "label": False}, ("trl", "", None, 1)),
        (ROWS["ranking"], ("trl", "", [["y"], ["x", "z"]], None)),
        ({"prompt": "Q", "completions": ["x", "y"], "scores": [0.1, 0.9]}, ("trl", "y", None, None)),
        ({"prompt": "Q", "completions": ["x", "y"], "ranks": [1, 1]}, ("trl", "tie", None, None)),
        (
            {"prompt": "Q", "responses": ["x", "y", "z"], "ranking": [2, [0, 1]]},
            ("trl", "", [["z"], ["x", "y"]], None),
        ),
        (
            {"prompt": "Q", "answers": [{"answer": "x", "model": "m", "rank": 2},
                                        {"answer": "y", "rank": 1}]},
            ("trl", "y", None, None),
        ),
        (ROWS["openai-preference"], ("openai-preference", "good", None, None)),
        (
            {"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "good"},
             "rejected": {"from": "gpt", "value": "bad"}},
            ("sharegpt", "good", None, None),
        ),
        ({"instruction": "Q", "chosen": "good", "rejected": "bad"}, ("alpaca", "good", None, None)),
        (BATTLE, ("mt-bench/expert_3", "y", None, None)),
        ({**BATTLE, "winner": "tie (inconsistent)", "judge": ["gpt-4", "pair-v2"]},
         ("mt-bench/gpt-4-pair-v2", "tie", None, None)),
        ({**BATTLE, "winner": "tie (bothbad)"}, ("mt-bench/expert_3", "both_bad", None, None)),
        (ROWS["arena"], ("arena", "y", None, None)),
        (ROWS["pandalm"], ("pandalm/annotator1", "y", None, None)),
        ({**ROWS["pandalm"], "annotator1": 0}, ("pandalm/annotator1", "tie", None, None)),
        (ROWS["argilla"], ("argilla/u1", "y", None, None)),
        (
            {
                "id": "1", "status": "completed", "_server_id": "s",
                "fields": {"instruction": "Q", "responses": ["x", "y", "z"]},
                "responses": {"order": [{"user_id": "u1", "value": [
                    {"value": "responses-3", "rank": 1}, {"value": "responses-1", "rank": 2},
                    {"value": "responses-2", "rank": 2}]}]},
            },
            ("argilla/u1", "", [["z"], ["x", "y"]], None),
        ),
        (
            {"prompt": "Q", "response": "x", "rating.responses": [4], "rating.responses.users": ["u1"],
             "rating.responses.status": ["submitted"]},
            ("argilla/u1", "", None, 4),
        ),
        (
            {"fields": {"text": "Q", "response": "x"}, "status": "completed",
             "responses": [{"user_id": "u1", "status": "submitted", "values": {"rating": {"value": 3}}}]},
            ("argilla/u1", "", None, 3),
        ),
        (ROWS["label-studio"], ("label-studio/4", "y", None, None)),
        (
            {"data": {"question": "Q", "answer": "x"}, "annotations": [
                {"completed_by": {"email": "someone@example.org"}, "result": [{"value": {"rating": 2}}]}]},
            ("label-studio/79a6123c2db3", "", None, 2),
        ),
        (
            {"data": {"prompt": "Q", "items": [{"id": "p", "body": "x"}, {"id": "q", "body": "y"},
                                               {"id": "r", "body": "z"}]},
             "annotations": [{"completed_by": 1, "result": [
                 {"value": {"ranker": {"rank": ["r", "p", "q"]}}}]}]},
            ("label-studio/1", "", [["z"], ["x"], ["y"]], None),
        ),
        (
            {"id": 1, "prompt": "Q", "answer1": "x", "answer2": "y", "better": "left", "annotator": 2,
             "annotation_id": 3, "lead_time": 4.5},
            ("label-studio/2", "x", None, None),
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_was_said_is_stored(project, row, said):
    assert told(project, row) == [said]
    assert not Item.objects.filter(open_slots__gt=0).exists()


def test_times_and_models_are_kept(project):
    take(project, jsonl({**BATTLE, "tstamp": 1_687_000_000.5}))
    assert Judgment.objects.get().judged_at.isoformat() == "2023-06-17T11:06:40.500000+00:00"
    assert list(Completion.objects.order_by("pk").values_list("source_model", flat=True)) == ["ada", "bob"]


def test_a_vote_with_the_sides_swapped_is_of_the_same_item(project):
    swapped = {
        **BATTLE,
        "model_a": BATTLE["model_b"],
        "model_b": BATTLE["model_a"],
        "conversation_a": BATTLE["conversation_b"],
        "conversation_b": BATTLE["conversation_a"],
        "winner": "model_a",
        "judge": "expert_4",
    }
    said = told(project, BATTLE, swapped)
    assert said == [("mt-bench/expert_3", "y", None, None), ("mt-bench/expert_4", "y", None, None)]
    item = Item.objects.get()
    assert (item.overlap, item.open_slots) == (2, 0)
    assert set(Judgment.objects.values_list("choice", flat=True)) == {"b"}
    again = take(project, jsonl({**swapped, "winner": "tie"}))
    assert again.left_out["contradiction"].lines == [1]
    third = take(project, jsonl({**swapped, "judge": "expert_5"}))
    assert (third.taken, third.items) == (1, 0)
    item.refresh_from_db()
    assert (item.overlap, item.open_slots) == (3, 0)


def test_a_second_turn_whose_first_differs_is_left_out_and_named(project):
    report = take(project, jsonl(BATTLE, {**BATTLE, "turn": 2}))
    assert report.left_out["differs_earlier"].lines == [2]
    same = {**BATTLE, "turn": 2, "conversation_b": [user("Q"), assistant("x"), user("And?"), assistant("yy")]}
    assert take(project, jsonl(same)).judgments == 1


def test_answers_find_their_question_turn_by_turn(project):
    take(project, jsonl(ROWS["mt-bench-questions"]))
    report = take(project, jsonl(ROWS["mt-bench-answers"]))
    assert (report.prompts, report.completions, report.items, report.taken) == (1, 2, 2, 1)
    second = Prompt.objects.get(messages=[user("Q"), assistant("x"), user("And?")])
    assert second.completions.get().text == "xx"
    assert set(Completion.objects.values_list("source_model", flat=True)) == {"ada"}


def test_conversations_keep_their_system_words_and_parts_of_text(project):
    asked = {"role": "user", "content": [{"type": "text", "text": "Q"}]}
    row = {"messages": [{"role": "developer", "content": "Be kind."}, asked, assistant("good")]}
    take(project, jsonl(row))
    assert Prompt.objects.get().messages == [{"role": "system", "content": "Be kind."}, user("Q")]
    take(project, jsonl({"instruction": "Do", "input": "this", "output": "done", "history": [["a", "b"]]}))
    assert Prompt.objects.filter(messages=[user("a"), assistant("b"), user("Do\n\nthis")]).exists()


def test_a_rating_outside_the_scale_is_named(project):
    row = {"data": {"prompt": "Q", "answer": "x"}, "annotations": [{"completed_by": 1, "result": []}]}
    row["annotations"][0]["result"] = [{"value": {"rating": 7}}]
    assert refusal(project, row) == "line 1: rating: 7 is outside the project's scale, 1 to 5."
    wide = make_project(scale_max=9)
    assert take(wide, jsonl(row)).judgments == 1


def refusal(project, *rows, **options):
    """The first error of rows that must be refused."""
    from rating.services.imports import ImportFailed

    before = counts()
    with pytest.raises(ImportFailed) as failed:
        take(project, jsonl(*rows), **options)
    assert counts() == before
    return str(failed.value.errors[0])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("trl-preference", {"rejected": None}, "rejected: is missing"),
        ("trl-preference", {"prompt": 4}, "prompt: expected a text or chat messages, found int"),
        ("trl-preference", {"chosen": [user("x")]}, "chosen: expected one message of the assistant"),
        ("trl-preference", {"prompt": None, "chosen": "a b", "rejected": "c d"}, "no beginning in common"),
        ("trl-unpaired", {"label": "perhaps"}, "label: expected true or false, found 'perhaps'"),
        ("ranking", {"ranks": [1, 2]}, "ranks: expected a list of 3 numbers"),
        ("ranking", {"ranks": [1, 2, "x"]}, "ranks: expected numbers"),
        ("ranking", {"ranking": [0, 1]}, "ranking: expected the places 0 to 2"),
        ("ranking", {"completions": ["x"] * 10}, "completions: 10 are too many"),
        (
            "openai-chat",
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].role: 'tool' is unknown",
        ),
        ("openai-chat", {"messages": [user([{"type": "image_url"}])]}, "messages[0].content[0]: is no text"),
        ("openai-preference", {"input": "Q"}, "input: expected an object with `messages`"),
        (
            "sharegpt",
            {"conversations": [{"from": "dog", "value": "x"}]},
            "conversations[0].from: 'dog' is unknown",
        ),
        ("alpaca", {"instruction": ""}, "instruction: is empty"),
        ("alpaca", {"output": 5}, "output: expected a text, found int"),
        ("mt-bench-questions", {"turns": []}, "turns: expected a list"),
        ("mt-bench-votes", {"winner": "me"}, "winner: 'me' is unknown; use one of model_a"),
        ("mt-bench-votes", {"turn": 0}, "turn: expected a number from 1"),
        ("mt-bench-votes", {"judge": None, "winner": 3}, "winner: '3' is unknown"),
        ("pandalm", {"annotator1": 3}, "annotator1: expected 0 (a tie), 1 or 2, found '3'"),
        ("argilla", {"fields": {"topic": "x"}}, "fields: has no prompt"),
        ("label-studio", {"data": {"prompt": "Q", "answer": {"a": 1}}}, "data.answer[0]: expected an object"),
        ("mt-bench-answers", {}, "question_id: '81' is no question of this project"),
    ],
)
def test_a_bad_row_is_named_by_its_field(project, name, change, words):
    row = {
        key: value for key, value in {**ROWS[name], **change}.items() if value is not None or key != "judge"
    }
    error = refusal(project, row, format=name)
    assert error.startswith("line 1: ")
    assert words in error


def test_raters_are_pseudonymous(project):
    take(project, jsonl(BATTLE))
    rater = Rater.objects.get()
    assert (rater.external_id, rater.user) == ("mt-bench/expert_3", None)
    assert rater.pseudonym.startswith("R-")


def test_a_prompt_may_be_a_transcript(project):
    asked = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Q\n\nAssistant:"
    take(project, jsonl({"prompt": asked, "chosen": "good", "rejected": "bad"}))
    assert Prompt.objects.get().messages == [user("Hi"), assistant("Hello."), user("Q")]
