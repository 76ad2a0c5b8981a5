"""What went wrong with a run, in words, and what a person can do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """A failure in one line, and what to do."""

    title: str
    advice: str


EXPLANATIONS = {
    "stuck_loss": Explanation(
        "The loss stuck at ln 2: nothing was learned",
        "The model gave both responses of every pair the same score. Look at the snapshot: are chosen and "
        "rejected really different? If they are, start it again with a higher learning rate.",
    ),
    "nan_loss": Explanation(
        "The loss stopped being a number",
        "The steps were too large. Start it again with a learning rate three to ten times lower, or a "
        "smaller max_grad_norm.",
    ),
    "disk_full": Explanation(
        "The disk is full",
        "Free some space where Ratchet keeps its runs, then start the same settings again.",
    ),
    "out_of_memory": Explanation(
        "The machine ran out of memory",
        "Start it again with a smaller batch size, a smaller max_length, or an adapter (LoRA) instead of all "
        "weights. More gradient_accumulation makes up for a smaller batch.",
    ),
    "bad_spec": Explanation(
        "The settings were refused",
        "The message names the setting and what would be right. Clone the run and change it.",
    ),
    "bad_data": Explanation(
        "The data could not be used",
        "The message names the file and the line. Often there are too few judgments yet: rate more, freeze a "
        "new snapshot and start again.",
    ),
    "bad_model": Explanation(
        "The model could not be loaded",
        "Check that the model's directory is still there, holds safetensors weights and a tokenizer with a "
        "chat template, or that the hub id is spelled right and can be reached from this machine.",
    ),
    "lost": Explanation(
        "The run was lost",
        "The process that trained it went away and did not come back in time, more often than it may. See "
        "that `manage.py trainer` stays up and that the machine has memory to spare, then start it again.",
    ),
    "crash": Explanation(
        "The recipe crashed",
        "The message and the end of the log say where. When neither helps, start it again with the settings' "
        "defaults.",
    ),
    "after": Explanation(
        "The run before it did not succeed",
        "This run needed what that one makes. Look there first, then start both again.",
    ),
}
UNKNOWN = Explanation("The run failed", "The message and the end of the log say more.")


def explain_error(code: str) -> Explanation:
    """The explanation of an error code; a general one for a code that is not known."""
    return EXPLANATIONS.get(code, UNKNOWN)
