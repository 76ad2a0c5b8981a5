"""Model versions: those that runs make, and base models that come from outside."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext

from rating.models import ModelVersion, Project
from rating.services.audit import record_event
from rating.services.texts import TextError, check_text
from training.models import Promotion, TrainingRun
from training.services.files import hash_file

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ADAPTER_CONFIG = "adapter_config.json"
MODEL_SUFFIXES = {".json", ".safetensors", ".model", ".txt", ".jinja"}
PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")


class VersionError(ValueError):
    """A model version that cannot be taken: which field, and what would be right."""

    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(f"{field}: {message}")


def user_model(project: Project) -> ModelVersion | None:
    """The project's promoted policy: that of the latest promotion."""
    promotion = Promotion.objects.filter(project=project).select_related("model_version").first()
    return promotion.model_version if promotion else None


def newest_reward_version(project: Project) -> ModelVersion | None:
    """The reward model that was made or added last."""
    return ModelVersion.objects.filter(project=project, kind=ModelVersion.Kind.REWARD).first()


def is_hub_id(base: str) -> bool:
    """Whether a version's base is the id of a hub model; directories are stored with their absolute path."""
    return HUB_ID.fullmatch(base) is not None


def model_files(directory: Path) -> list[Path]:
    """The files that make up a model: weights as safetensors, configuration and tokenizer; never pickles."""
    return sorted(path for path in directory.iterdir() if path.suffix in MODEL_SUFFIXES and path.is_file())


def add_base_version(
    project: Project,
    name: str,
    path_or_hub_id: str,
    *,
    kind: ModelVersion.Kind = ModelVersion.Kind.POLICY,
) -> ModelVersion:
    """Add a model from outside: a directory of this machine, or the id of a hub model (owner/name).

    Raises:
        VersionError: names the field and says what would be right.
    """
    name, base = name.strip(), path_or_hub_id.strip()
    if not 1 <= len(name) <= 120:
        raise VersionError("name", gettext("Give it a name of 1 to 120 characters."))
    if len(base) > 500:
        raise VersionError("base", gettext("Use a directory or hub id of at most 500 characters."))
    for field, text in (("name", name), ("base", base)):
        try:
            check_text(text, field)
        except TextError as error:
            raise VersionError(field, str(error)) from None
    facts = describe_base(base)
    try:
        with transaction.atomic():
            version = ModelVersion.objects.create(project=project, name=name, kind=kind, **facts)
            record_event("version.added", project, name, base=version.base)
            return version
    except IntegrityError:
        taken = gettext("There is already a model version named “%(name)s” in this project.")
        raise VersionError("name", taken % {"name": name}) from None


def describe_base(base: str) -> dict[str, Any]:
    """What is stored of a directory of this machine, or of a hub id.

    Raises:
        VersionError: the directory is no whole model or cannot be read.
    """
    try:
        directory = Path(base).expanduser()
        if is_hub_id(base) and not directory.is_dir():
            return {"base": base}
        if is_adapter(directory):
            raise VersionError("base", f"{directory}: is an adapter; name the directory of a whole model.")
        check_model_directory(directory)
        return describe_model(directory.resolve())
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        unreadable = gettext("%(path)s cannot be read: %(error)s")
        raise VersionError("base", unreadable % {"path": base, "error": error}) from error


def is_adapter(directory: Path) -> bool:
    """Whether the directory holds an adapter alone, to be used over another model."""
    return (directory / ADAPTER_CONFIG).is_file()


def check_model_directory(directory: Path) -> None:
    """Refuse what is not a whole model, or an adapter, of safetensors with its tokenizer.

    Raises:
        VersionError: says what is missing.
    """
    if problem := find_missing_part(directory):
        raise VersionError("base", problem)


def find_missing_part(directory: Path) -> str:
    """What keeps the directory from being a whole model, in a sentence; empty when it is one."""
    named = {"path": directory}
    if not directory.is_dir():
        return (
            gettext("%(path)s: there is no such directory, and it is not the id of a hub model (owner/name).")
            % named
        )
    names = {path.name for path in directory.iterdir()}
    if not names & {"config.json", ADAPTER_CONFIG}:
        return gettext("%(path)s: has no config.json; name the directory of a whole model.") % named
    if not any(name.endswith(".safetensors") for name in names):
        if pickles := sorted(name for name in names if Path(name).suffix in PICKLE_SUFFIXES):
            return gettext(
                "%(path)s: its weights (%(files)s) are pickles, which can run code when they are loaded; "
                "convert them to safetensors."
            ) % {**named, "files": ", ".join(pickles[:3])}
        return gettext("%(path)s: it has no .safetensors file.") % named
    if not names & set(TOKENIZER_FILES):
        return gettext("%(path)s: has no tokenizer (for example tokenizer.json).") % named
    return ""


def describe_model(directory: Path) -> dict[str, Any]:
    """Fields of a ModelVersion that tell which bytes it is: base, files and the hashes of the tokenizer's."""
    files = {path.name: hash_file(path) for path in model_files(directory)}
    tokenizer = "".join(files[name] for name in TOKENIZER_FILES if name in files)
    template = read_chat_template(directory)
    return {
        "base": str(directory),
        "files": files,
        "tokenizer_hash": hashlib.sha256(tokenizer.encode()).hexdigest() if tokenizer else "",
        "chat_template_hash": hashlib.sha256(template.encode()).hexdigest() if template else "",
    }


def read_chat_template(directory: Path) -> str:
    """The chat template, from its own file or the tokenizer's configuration; empty when there is none."""
    own = directory / "chat_template.jinja"
    if own.is_file():
        return own.read_text("utf-8")
    config = directory / "tokenizer_config.json"
    if not config.is_file():
        return ""
    try:
        template = json.loads(config.read_text("utf-8")).get("chat_template") or ""
    except (ValueError, AttributeError):
        raise VersionError("base", gettext("%(path)s: is not a JSON object.") % {"path": config}) from None
    return template if isinstance(template, str) else json.dumps(template, sort_keys=True)


def describe_output(run: TrainingRun, result: dict[str, Any]) -> dict[str, Any]:
    """What `register_version` stores of the run's output. Reads every file: call it outside a transaction.

    Raises:
        VersionError: the output is not a whole model.
    """
    output = run.directory / str(result["model"])
    check_model_directory(output)
    facts = describe_model(output.resolve())
    if not is_adapter(output):
        return facts
    if run.policy is None or not run.policy.base:
        raise VersionError("base", f"{output}: is an adapter, and the run names no model that it lies over.")
    return facts | {"base": run.policy.base, "adapter": facts["base"]}


@transaction.atomic
def register_version(
    run: TrainingRun, result: dict[str, Any], facts: dict[str, Any] | None = None
) -> ModelVersion:
    """The model version that a succeeded run made; `facts` is `describe_output`'s answer when it is at hand.

    Raises:
        VersionError: the output is not a whole model.
    """
    kind = ModelVersion.Kind(result["kind"])
    name = stem = f"{kind.value}-{run.number}"
    taken = set(
        ModelVersion.objects.filter(project=run.project_id, name__startswith=stem).values_list(
            "name", flat=True
        )
    )
    suffix = 2
    while name in taken:
        name, suffix = f"{stem}-{suffix}", suffix + 1
    return ModelVersion.objects.create(
        project=run.project,
        name=name,
        kind=kind,
        parent=run.policy,
        **(facts or describe_output(run, result)),
    )
