"""Every field that a person or a model can fill with a text, and the scene in which the tests fill it.

A scene is a function of that name in tests/rating/test_hostile_fields.py or
tests/training/test_hostile_fields.py; tests/house/test_hostile_fields.py fails when a column or a form's
field is on no list here. `browser` says whether tests/browser/test_hostile.py shows it in Chromium.
"""

from __future__ import annotations

from typing import NamedTuple


class Filled(NamedTuple):
    """Where a column is filled by the HTTP tests, and whether it is shown in the browser's test."""

    scene: str
    browser: bool


MADE_HERE = "written by the program alone"

COLUMNS: dict[str, Filled | str] = {
    "User.username": Filled("account_names", True),
    "User.first_name": Filled("account_names", False),
    "User.last_name": Filled("account_names", False),
    "User.email": Filled("account_names", False),
    "ApiToken.name": Filled("tokens", False),
    "ApiToken.scopes": Filled("tokens", False),
    "ApiToken.digest": MADE_HERE,
    "ApiToken.start": MADE_HERE,
    "AuditEvent.actor_name": Filled("account_names", False),
    "AuditEvent.action": MADE_HERE,
    "AuditEvent.subject": Filled("tokens", False),
    "AuditEvent.details": Filled("settings", False),
    "Webhook.url": Filled("webhooks", False),
    "Webhook.secret": MADE_HERE,
    "WebhookDelivery.body": MADE_HERE,
    "WebhookDelivery.said": MADE_HERE,
    "User.password": Filled("sign_in", False),
    "RaterPreferences.settings": Filled("preferences", True),
    "Rater.external_id": MADE_HERE,
    "Rater.pseudonym": MADE_HERE,
    "Project.slug": Filled("new_project", False),
    "Project.name": Filled("settings", True),
    "Project.description": Filled("settings", True),
    "Project.preset": Filled("asking", False),
    "Project.span_reasons": Filled("asking", True),
    "Guidelines.text": Filled("guidelines", True),
    "Dimension.key": Filled("asking", False),
    "Dimension.name": Filled("asking", True),
    "Dimension.low_label": Filled("asking", True),
    "Dimension.high_label": Filled("asking", True),
    "Question.key": Filled("asking", False),
    "Question.text": Filled("asking", True),
    "Question.options": Filled("asking", True),
    "Question.low_label": Filled("asking", True),
    "Question.high_label": Filled("asking", True),
    "ModelVersion.name": Filled("base_model", True),
    "ModelVersion.base": Filled("base_model", True),
    "ModelVersion.adapter": Filled("admin_version", True),
    "ModelVersion.system_prompt": Filled("admin_version", False),
    "ModelVersion.endpoint": Filled("admin_version", False),
    "ModelVersion.tokenizer_hash": Filled("admin_version", True),
    "ModelVersion.chat_template_hash": Filled("admin_version", True),
    "ModelVersion.files": Filled("admin_version", True),
    "Prompt.messages": Filled("import_rows", True),
    "Prompt.text_hash": MADE_HERE,
    "Prompt.metadata": Filled("import_rows", True),
    "Prompt.source": Filled("import_name", True),
    "Completion.text": Filled("import_rows", True),
    "Completion.text_hash": MADE_HERE,
    "Completion.source_model": Filled("import_rows", True),
    "Completion.sampling": MADE_HERE,
    "Item.content_hash": MADE_HERE,
    "Assignment.order_shown": MADE_HERE,
    "Assignment.skip_reason": Filled("skip", False),
    "Judgment.ranking": MADE_HERE,
    "Judgment.intent": Filled("answer", True),
    "Judgment.flags": Filled("answer", False),
    "Judgment.rationale": Filled("answer", True),
    "Answer.value": Filled("answer", True),
    "SpanMark.reason": Filled("answer", True),
    "Import.name": Filled("import_name", True),
    "Import.format": Filled("import_columns", False),
    "Import.columns": Filled("import_columns", False),
    "Import.position": MADE_HERE,
    "Import.report": Filled("import_rows", True),
    "Import.errors": Filled("import_rows", True),
    "Import.claimed_by": MADE_HERE,
    "DatasetSnapshot.content_hash": MADE_HERE,
    "DatasetSnapshot.query": MADE_HERE,
    "DatasetSnapshot.counts": MADE_HERE,
    "Trigger.name": Filled("trigger", True),
    "Trigger.schedule": Filled("trigger", False),
    "Trigger.plan": Filled("trigger", False),
    "TrainingRun.recipe": Filled("new_run", False),
    "TrainingRun.settings": Filled("new_run", True),
    "TrainingRun.claimed_by": MADE_HERE,
    "TrainingRun.error_code": Filled("run_directory", True),
    "TrainingRun.error_message": Filled("run_directory", True),
    "TrainingRun.result": Filled("run_directory", True),
    "RunEvent.kind": Filled("run_directory", True),
    "RunEvent.data": Filled("run_directory", True),
    "Promotion.evidence": MADE_HERE,
    "Promotion.reason": Filled("promotion", True),
}
"""The columns that hold texts, by model and field."""

FORMS: dict[str, dict[str, str]] = {
    "AskingForm": {"span_reasons": "asking", "preset": "asking"},
    "RowForm": {"key": "asking", "low_label": "asking", "high_label": "asking"},
    "DimensionForm": {"key": "asking", "name": "asking", "low_label": "asking", "high_label": "asking"},
    "QuestionForm": {
        "key": "asking",
        "text": "asking",
        "options": "asking",
        "low_label": "asking",
        "high_label": "asking",
    },
    "AnswerForm": {"seconds": "answer", "idempotency_key": "answer"},
    "ProjectForm": {"name": "settings", "description": "settings"},
    "NewProjectForm": dict.fromkeys(("name", "slug", "description", "guidelines"), "new_project"),
    "GuidelinesForm": {"text": "guidelines"},
    "MemberForm": {"username": "members"},
    "UploadForm": {"file": "import_name"},
    "WebhookForm": {"url": "webhooks"},
    "TokenForm": {"name": "tokens"},
    "TriggerForm": {"name": "trigger", "schedule": "trigger", "plan": "trigger"},
    "BaseModelForm": {"name": "base_model", "base": "base_model"},
    "PromotionForm": {"reason": "promotion"},
    "ReasonForm": {"reason": "promotion"},
    # Without fields of their own, or with fields made from the project or the specification, all of which the
    # scenes fill: see `answer`, `preferences`, `new_run`, `import_columns` and `snapshot_query`.
    "StartForm": {},
    "QueryForm": {},
    "PreferencesForm": {},
    "SettingsForm": {},
}
"""The fields of forms that take a text, by form."""

MADE_FROM_OUTSIDE = {
    "query strings and numbers in addresses": "query",
    "the slug in an address": "slug_in_address",
    "headers of the page's script": "headers",
    "bodies and query strings of programs": "programs",
    "the name and password at the sign-in": "sign_in",
    "the search of the administration": "admin_search",
    "what a model wrote, in output/samples.jsonl": "samples",
    "the log of a run": "run_directory",
    "the names of a file's columns": "import_columns",
    "what a snapshot is asked for, and its addresses": "snapshot_query",
    "the rows of snapshots and exports": "snapshot_rows",
}
"""What is no column and no form's field, and the scene that fills it."""
