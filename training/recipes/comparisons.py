"""A reward model from comparisons where TRL's RewardTrainer has no loss: soft labels, strengths, ties,
rankings, several heads, ensembles.

A row is a prompt's responses and the pairs among them. Its pairs' losses are summed and divided by their
number, so that a ranking of nine counts as much as a single pair (InstructGPT, arXiv 2203.02155, eq. 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from datasets import Dataset
from trl import RewardTrainer

from training.recipes import reward_losses as losses
from training.recipes.data import Preference, Ranking, encode_chat
from training.recipes.generation import derive_seed
from training.recipes.heads import Heads, split_scores
from training.recipes.rundir import Run
from training.recipes.spec import ComparedSpec, RankingRewardSpec, RewardSpec

PAIR_COLUMNS = ("better", "worse", "head", "margin", "label", "tie")


Compared = TypeVar("Compared", Preference, Ranking)


def keep_heads(rows: list[Compared], heads: Heads, run: Run, name: str) -> list[Compared]:
    """The rows of the named scores; every row where there is one score without a name."""
    if heads.names == ("",):
        return rows
    kept = [row for row in rows if row.head in heads.names]
    if len(kept) < len(rows):
        message = f"{len(rows) - len(kept)} of {len(rows)} {name} are of no head in {', '.join(heads.names)}"
        run.emit("warning", message=f"{message} and were left out")
    return kept


def place_of(head: str | None, heads: Heads) -> int:
    """The score that a row is about: the only one, or the one of its name."""
    return 0 if head is None or heads.names == ("",) else heads.names.index(head)


def margin_of(spec: RewardSpec, row: Preference) -> float:
    """What the pair's strength is worth; without one it asks for no margin, and weighs 1 in scaled."""
    unknown = 1.0 if spec.loss == "scaled" else 0.0
    if spec.margins == "none":
        return unknown
    if spec.margins == "row":
        return unknown if row.margin is None else row.margin
    worth = losses.SMALL_MARGINS if spec.margins == "small" else losses.LARGE_MARGINS
    return unknown if row.strength is None else worth[row.strength]


def resample(count: int, heads: Heads, seed: int) -> list[list[float]]:
    """How often each of `count` rows is in each member's sample: Poisson(1), or 1 for a single member."""
    if heads.members == 1:
        return [[1.0]] * count
    drawn = []
    for member in range(heads.members):
        generator = torch.Generator().manual_seed(derive_seed(seed, "resample", member))
        drawn.append(torch.poisson(torch.ones(count), generator=generator))
    times: list[list[float]] = torch.stack(drawn, 1).tolist()
    return times


def pair_rows(spec: RewardSpec, rows: list[Preference], tokenizer: Any, heads: Heads) -> Dataset:
    """Each pair as a row of two responses."""
    return Dataset.from_list(
        [
            {
                "responses": [encode_chat(tokenizer, row.prompt + one) for one in row.responses],
                "times": times,
                "better": [0],
                "worse": [1],
                "head": [place_of(row.head, heads)],
                "margin": [margin_of(spec, row)],
                "label": [1.0 if row.label is None else row.label],
                "tie": [float(row.tie)],
            }
            for row, times in zip(rows, resample(len(rows), heads, spec.seed), strict=True)
        ]
    )


def ranking_rows(spec: RankingRewardSpec, rows: list[Ranking], tokenizer: Any, heads: Heads) -> Dataset:
    """Each ranking as a row of its responses and all its pairs."""
    found = []
    for row, times in zip(rows, resample(len(rows), heads, spec.seed), strict=True):
        pairs = losses.pairs_of(row.ranks, with_ties=spec.models_ties)
        found.append(
            {
                "responses": [encode_chat(tokenizer, row.prompt + one) for one in row.responses],
                "times": times,
                "better": [better for better, _, _ in pairs],
                "worse": [worse for _, worse, _ in pairs],
                "head": [place_of(row.head, heads)] * len(pairs),
                "margin": [0.0] * len(pairs),
                "label": [1.0] * len(pairs),
                "tie": [float(tie) for _, _, tie in pairs],
            }
        )
    return Dataset.from_list(found)


@dataclass
class Collator:
    """Rows as one batch: all responses [N, T] padded right, all pairs [P] by their responses' places in it.

    `weight` [P] is 1 / (the row's pairs * rows), so that the weighted sum is the mean over the rows; `times`
    [P, K] says how often each ensemble member sees the pair.
    """

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        flat: dict[str, list[Any]] = {name: [] for name in (*PAIR_COLUMNS, "weight", "times")}
        responses: list[list[int]] = []
        for row in rows:
            for name in PAIR_COLUMNS:
                shift = len(responses) if name in ("better", "worse") else 0
                flat[name] += [value + shift for value in row[name]]
            flat["weight"] += [1 / (len(row["better"]) * len(rows))] * len(row["better"])
            flat["times"] += [row["times"]] * len(row["better"])
            responses += row["responses"]
        return pad_responses(responses, self.pad_token_id) | {
            name: torch.tensor(values) for name, values in flat.items()
        }


def pad_responses(responses: Sequence[list[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask [N, T], padded right."""
    width = max(map(len, responses))
    return {
        "input_ids": torch.tensor([ids + [pad_token_id] * (width - len(ids)) for ids in responses]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in responses]),
    }


def add_tie_parameter(spec: ComparedSpec, model: Any) -> None:
    """A learned tie parameter lives in the score head, so that it is trained and kept wherever that is."""
    if spec.models_ties and spec.tie_parameter is None:
        start = losses.DAVIDSON_NU if spec.loss == "davidson" else losses.RAO_KUPPER_THRESHOLD
        score = score_layer(model)
        value = torch.tensor(start, device=score.weight.device).log()
        score.register_parameter("log_tie", torch.nn.Parameter(value))


def score_layer(model: Any) -> Any:
    """The score head; of an adapter that is trained on, its own copy of it."""
    score = model.score
    return score.modules_to_save[score.active_adapter] if hasattr(score, "modules_to_save") else score


def find_parameter(model: Any, name: str) -> torch.Tensor | None:
    """The score head's learned parameter of that name; with an adapter the copy that is trained."""
    found = [
        value for key, value in model.named_parameters() if key.endswith(f".{name}") and value.requires_grad
    ]
    return found[0] if found else None


class ScoreTrainer(RewardTrainer):
    """TRL's RewardTrainer over rows that are tokens already; its loss is a subclass's."""

    def __init__(self, *, heads: Heads, model: Any, **arguments: Any) -> None:
        self.heads = heads
        model.config.num_labels = 1  # TRL refuses more, for its own loss has no use for them
        super().__init__(model=model, **arguments)
        model.config.num_labels = heads.outputs

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def scores(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """[N, H, K]; the tokens are counted as TRL counts them."""
        batch = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        mask = self.accelerator.gather_for_metrics(inputs["attention_mask"].sum())
        self._total_train_tokens += int(mask.sum().item())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return split_scores(model(**batch, use_cache=False).logits, self.heads).float()

    def note(self, **values: torch.Tensor | float) -> None:
        for name, value in values.items():
            self._metrics["train"][name].append(float(value))


class ComparisonTrainer(ScoreTrainer):
    """The losses of comparisons over rows of responses and pairs."""

    def __init__(self, *, spec: ComparedSpec, **arguments: Any) -> None:
        self.spec = spec
        super().__init__(**arguments)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        scores = self.scores(model, inputs)
        better = scores[inputs["better"], inputs["head"]]
        worse = scores[inputs["worse"], inputs["head"]]
        each = self.pair_losses(model, better - worse, inputs)
        if self.spec.center_coefficient:
            each = each + self.spec.center_coefficient * losses.centering(better, worse)
        per_pair = (each * inputs["times"]).mean(1)
        self.note_choices(better.detach().mean(1) - worse.detach().mean(1), inputs["tie"], scores.detach())
        return (per_pair * inputs["weight"]).sum()

    def pair_losses(
        self, model: Any, difference: torch.Tensor, inputs: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """[P, K] from the score differences [P, K]."""
        margin, label, tie = (inputs[name].unsqueeze(1) for name in ("margin", "label", "tie"))
        match self.spec.loss:
            case "bradley_terry":
                return losses.bradley_terry(difference, margin, label)
            case "scaled":
                return losses.scaled_bradley_terry(difference, margin, label)
            case "davidson":
                return losses.davidson(difference, self.log_tie(model, difference), label, tie)
            case "rao_kupper":
                return losses.rao_kupper(difference, self.log_tie(model, difference).exp(), label, tie)
        raise ValueError(f"no such loss: {self.spec.loss}")

    def log_tie(self, model: Any, like: torch.Tensor) -> torch.Tensor:
        learned = find_parameter(model, "log_tie")
        value = like.new_tensor(self.spec.tie_parameter or 1.0).log() if learned is None else learned.float()
        self.note(tie_parameter=value.detach().exp())
        return value

    def note_choices(self, difference: torch.Tensor, tie: torch.Tensor, scores: torch.Tensor) -> None:
        decided = difference[tie == 0]
        if len(decided):
            self.note(accuracy=(0.5 + 0.5 * decided.sign()).mean(), margin=decided.mean())
        self.note(mean_reward=scores.mean(), min_reward=scores.min(), max_reward=scores.max())
