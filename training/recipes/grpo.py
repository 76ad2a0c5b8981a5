"""Group relative policy optimisation against a reward model (TRL's GRPOTrainer; arXiv 2402.03300).

Each prompt is answered several times; a response is better than expected by as much as its reward is above
its group's mean. The KL is part of the loss. With an adapter the reference is the adapter switched off.
"""

from __future__ import annotations

from trl import GRPOConfig, GRPOTrainer

from training.recipes.data import read_prompts
from training.recipes.generation import end_tokens
from training.recipes.models import context_length, load_policy, load_tokenizer
from training.recipes.online import OnlineCallback, Rater, lay_out_prompts, online_arguments, set_reference
from training.recipes.rundir import Outcome, Run
from training.recipes.scoring import make_scorer
from training.recipes.spec import GrpoSpec
from training.recipes.trainable import copy_reference, prepare_trainable
from training.recipes.trl_run import run_trainer


def train(spec: GrpoSpec, run: Run) -> Outcome:
    tokenizer = load_tokenizer(run, spec.model)
    model = load_policy(run, spec.model, tokenizer, train=spec.train)
    room = context_length(model, spec.max_length)
    prompts = read_prompts(run.directory / spec.data.train)
    ends = end_tokens(model, tokenizer)

    reference = copy_reference(model, spec)
    adapter = prepare_trainable(model, spec, tokenizer, "CAUSAL_LM")
    rater = Rater(spec, make_scorer(run, spec), prompts, ends)
    callback = OnlineCallback(run, tokenizer, room, rater)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=rater.rate,
        args=GRPOConfig(
            **online_arguments(spec, run),
            per_device_train_batch_size=spec.batch_size,
            gradient_accumulation_steps=spec.responses_per_step // spec.batch_size,
            num_generations=spec.samples_per_prompt,
            max_completion_length=spec.max_new_tokens,
            beta=spec.beta,  # TRL's default is 0: no reference, no KL
            epsilon=spec.clip_range,
            loss_type=spec.loss_type,
            scale_rewards=spec.scale_rewards,
            shuffle_dataset=False,
        ),
        train_dataset=lay_out_prompts(prompts, spec, tokenizer, room),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback],
    )
    set_reference(trainer, reference)
    return run_trainer(trainer, callback)
