"""Making prompts, completions and items, each once."""

import random
from collections.abc import Sequence

from django.db import transaction

from rating.models import Completion, Item, ItemCompletion, ModelVersion, Project, Prompt, Rater
from rating.services.makers import names_maker
from rating.services.texts import Message, check_messages, check_text, hash_messages, hash_text, split_of

MAX_COMPLETIONS = 9


def item_hash(purpose: str, prompt_id: int, completion_ids: Sequence[int]) -> str:
    """The identity of an item within its project, whatever the order of its completions."""
    return hash_text(f"{purpose}:{prompt_id}:{','.join(map(str, sorted(completion_ids)))}")


def queue_key(project: Project) -> float:
    """The item's place among those of equal priority; handed out lowest first, then by id."""
    return random.random() if project.queue_strategy == Project.QueueStrategy.SHUFFLED else 0.0  # noqa: S311


def get_or_create_prompt(
    project: Project, messages: list[Message], *, source: str = "", metadata: dict[str, object] | None = None
) -> tuple[Prompt, bool]:
    """The project's prompt with this text, and whether it is new.

    Raises:
        TextError: the conversation cannot be taken.
    """
    messages = check_messages(messages)
    return Prompt.objects.get_or_create(
        project=project,
        text_hash=hash_messages(messages),
        defaults={
            "messages": messages,
            "split": split_of(messages, project.eval_percent),
            "source": source,
            "metadata": metadata or {},
        },
    )


def create_completion(
    prompt: Prompt,
    text: str,
    *,
    model_version: ModelVersion | None = None,
    author: Rater | None = None,
    sampling: dict[str, object] | None = None,
) -> Completion:
    """Store a response that a model version or, as `author`, a person wrote.

    Raises:
        TextError: the text cannot be taken.
    """
    check_text(text, "response")
    return Completion.objects.create(
        prompt=prompt,
        text=text,
        text_hash=hash_text(text),
        model_version=model_version,
        author=author,
        names_maker=names_maker(text),
        sampling=sampling or {},
    )


@transaction.atomic
def create_item(
    project: Project,
    prompt: Prompt,
    completions: Sequence[Completion],
    *,
    purpose: Item.Purpose = Item.Purpose.COLLECT,
    priority: int = 0,
    overlap: int | None = None,
) -> Item:
    """Put a prompt with one to nine of its completions up for rating; the same item is made once.

    Raises:
        ValueError: no completions, too many, one twice, or one of another prompt.
    """
    ids = [completion.pk for completion in completions]
    if not 1 <= len(ids) <= MAX_COMPLETIONS:
        raise ValueError(f"An item has 1 to {MAX_COMPLETIONS} completions, not {len(ids)}.")
    if len(set(ids)) != len(ids) or any(completion.prompt_id != prompt.pk for completion in completions):
        raise ValueError("An item's completions are different responses to its own prompt.")
    slots = overlap or project.overlap
    item, created = Item.objects.get_or_create(
        project=project,
        content_hash=item_hash(purpose, prompt.pk, ids),
        defaults={
            "prompt": prompt,
            "purpose": purpose,
            "priority": priority,
            "queue_key": queue_key(project),
            "overlap": slots,
            "open_slots": slots,
        },
    )
    if created:
        ItemCompletion.objects.bulk_create(
            ItemCompletion(item=item, completion=completion, position=position)
            for position, completion in enumerate(completions)
        )
    return item
