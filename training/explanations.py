"""What went wrong with a run, in words, and what a person can do about it."""

from dataclasses import dataclass

from django.utils.translation import gettext, gettext_noop


@dataclass(frozen=True)
class Explanation:
    """A failure in one line, and what to do."""

    title: str
    advice: str


EXPLANATIONS = {
    "stuck_loss": Explanation(
        gettext_noop("The loss stuck at ln 2: nothing was learned"),
        gettext_noop(
            "The model gave both responses of every pair the same score. Look at the snapshot: are chosen "
            "and rejected really different? If they are, start it again with a higher learning rate."
        ),
    ),
    "nan_loss": Explanation(
        gettext_noop("The loss stopped being a number"),
        gettext_noop(
            "The steps were too large. Start it again with a learning rate three to ten times lower, or a "
            "smaller max_grad_norm."
        ),
    ),
    "disk_full": Explanation(
        gettext_noop("The disk is full"),
        gettext_noop("Free some space where Ratchet keeps its runs, then start the same settings again."),
    ),
    "out_of_memory": Explanation(
        gettext_noop("The machine ran out of memory"),
        gettext_noop(
            "Start it again with a smaller batch size, a smaller max_length, or an adapter (LoRA) instead "
            "of all weights. More gradient_accumulation makes up for a smaller batch."
        ),
    ),
    "bad_spec": Explanation(
        gettext_noop("The settings were refused"),
        gettext_noop("The message names the setting and what would be right. Clone the run and change it."),
    ),
    "bad_data": Explanation(
        gettext_noop("The data could not be used"),
        gettext_noop(
            "The message names the file and the line. Often there are too few judgments yet: rate more, "
            "freeze a new snapshot and start again."
        ),
    ),
    "bad_model": Explanation(
        gettext_noop("The model could not be loaded"),
        gettext_noop(
            "Check that the model's directory is still there, holds safetensors weights and a tokenizer "
            "with a chat template, or that the hub id is spelled right and can be reached from this "
            "machine."
        ),
    ),
    "lost": Explanation(
        gettext_noop("The run was lost"),
        gettext_noop(
            "The process that trained it went away and did not come back in time, more often than it may. "
            "See that `manage.py trainer` stays up and that the machine has memory to spare, then start it "
            "again."
        ),
    ),
    "crash": Explanation(
        gettext_noop("The recipe crashed"),
        gettext_noop(
            "The message and the end of the log say where. When neither helps, start it again with the "
            "settings' defaults."
        ),
    ),
    "after": Explanation(
        gettext_noop("The run before it did not succeed"),
        gettext_noop("This run needed what that one makes. Look there first, then start both again."),
    ),
}
UNKNOWN = Explanation(
    gettext_noop("The run failed"),
    gettext_noop("The message and the end of the log say more."),
)


def explain_error(code: str) -> Explanation:
    """The explanation of an error code, in the reader's language; a general one for an unknown code."""
    found = EXPLANATIONS.get(code, UNKNOWN)
    return Explanation(gettext(found.title), gettext(found.advice))
