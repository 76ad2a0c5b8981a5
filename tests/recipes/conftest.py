"""A tiny chat model and tiny datasets, made on the spot, and a way to run a recipe as a person would."""

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>"]


@dataclass
class Folder:
    """A run directory under test."""

    path: Path

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(),
            cwd=ROOT,
            env=child_environment(environment),
            capture_output=True,
            text=True,
            timeout=240,
        )

    def run_here(self) -> int:
        """Run in this process, which has imported torch already; returns the exit status."""
        import torch

        from training.recipes.run import main

        handler, environment = signal.getsignal(signal.SIGTERM), dict(os.environ)
        os.environ["HF_HUB_OFFLINE"] = "1"
        try:
            return main([str(self.path / "spec.json")])
        finally:
            signal.signal(signal.SIGTERM, handler)
            torch.use_deterministic_algorithms(False)
            os.environ.clear()
            os.environ.update(environment)

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        with (self.path / "log").open("ab") as log:
            return subprocess.Popen(
                self.command(), cwd=ROOT, env=child_environment(environment), stdout=log, stderr=log
            )

    def command(self) -> list[str]:
        return [sys.executable, "-m", "training.recipes.run", str(self.path / "spec.json")]

    def wait_for(self, process: subprocess.Popen[bytes], event: str, step: int) -> None:
        """Return once `event` was seen at `step` or later; fail when the process ends before."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if any(line.get("step", -1) >= step for line in self.events(event)):
                return
            assert process.poll() is None, (self.path / "log").read_text()
            time.sleep(0.005)
        raise AssertionError(f"no {event} at step {step}")

    def kill_after_checkpoint(self, checkpoint: int, step: int) -> None:
        """Start the run and kill -9 it after a checkpoint and a few steps more."""
        process = self.start()
        self.wait_for(process, "checkpoint", checkpoint)
        self.wait_for(process, "progress", step)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (self.path / "result.json").exists()

    def events(self, kind: str | None = None) -> list[dict]:
        path = self.path / "events.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [row for row in map(json.loads, lines) if kind in (None, row["event"])]

    def values(self, step: int, kind: str = "metrics") -> dict[str, float]:
        return [row["values"] for row in self.events(kind) if row["step"] == step][-1]

    def result(self) -> dict:
        return json.loads((self.path / "result.json").read_text())

    def weights(self, name: str = "output") -> dict:
        from safetensors.torch import load_file

        return load_file(self.path / name / "model.safetensors")


def run_together(*folders: Folder) -> list[int]:
    """Run each through the command's own function, one after the other in a process that stays: torch is
    imported once for all tests. Returns the exit statuses; the last folder's `log` has what was printed.
    """
    process, log = bench()
    statuses = []
    for folder in folders:
        process.stdin.write(f"{folder.path / 'spec.json'}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        while answer and not answer.startswith("status "):
            answer = process.stdout.readline()
        (folder.path / "log").write_text(log.read_text()[-20_000:])
        assert answer, (folder.path / "log").read_text()
        statuses.append(int(answer.split()[1]))
    return statuses


@functools.cache
def bench() -> tuple[subprocess.Popen[str], Path]:
    """The process of `run_together`: it reads a path a line, and ends with the tests."""
    code = (
        "import sys; from training.recipes.run import main\n"
        "for line in sys.stdin: print('\\nstatus', main([line.strip()]), flush=True)"
    )
    log = Path(tempfile.mkdtemp()) / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=child_environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    atexit.register(close_bench, process, log)
    return process, log


def close_bench(process: subprocess.Popen[str], log: Path) -> None:
    process.stdin.close()
    process.wait()
    process.stdout.close()
    shutil.rmtree(log.parent)


def run_all(folders: list[Folder], **environment: str) -> None:
    """Run each folder through the command line's main, one after the other in one process: torch comes
    once.
    """
    if not environment:
        run_together(*folders)
        return
    code = "import sys; from training.recipes.run import main; sys.exit(sum(main([p]) for p in sys.argv[1:]))"
    subprocess.run(
        [sys.executable, "-c", code, *(str(folder.path / "spec.json") for folder in folders)],
        cwd=ROOT,
        env=child_environment(environment),
        capture_output=True,
        timeout=1500,  # half a minute of work, on a machine that does other things at once
    )


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", **extra}


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def preference_rows(count: int) -> list[dict]:
    """Pairs whose chosen response is friendly and whose rejected one is not."""
    return [
        {
            "prompt": user(f"question {index}"),
            "chosen": assistant(f"yes gladly {index}"),
            "rejected": assistant(f"no {index % 3}"),
            "margin": None,
            "judgments": [],
        }
        for index in range(count)
    ]


def prompt_rows(count: int) -> list[dict]:
    return [{"id": f"p{index}", "prompt": user(f"question {index}")} for index in range(count)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of about 50,000 parameters with a byte-level tokenizer and a chat template."""
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def byte_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(SPECIAL + alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[4:]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def copy_tokenizer(source: Path, target: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source / file, target / file)


def write_reward_model(path: Path, tiny_model: Path, outputs: int = 1, seed: int = 3) -> None:
    """A reward model with random heads, as the reward recipe would leave it."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=outputs)
    with torch.no_grad():
        model.score.weight.mul_(20)
    model.save_pretrained(path)
    copy_tokenizer(tiny_model, path)


def write_adapted_reward_model(path: Path, tiny_model: Path, *, noise: float = 0.0) -> None:
    """A reward model that was trained with an adapter; `noise` on what it was trained from."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(3)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    with torch.no_grad():
        base.model.layers[1].mlp.up_proj.weight += noise
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["v_proj", "up_proj"], task_type="SEQ_CLS")
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
            elif "score" in name:
                parameter.mul_(20)
    model.save_pretrained(path / "adapter", save_embedding_layers=False)
    model.merge_and_unload().save_pretrained(path)
    copy_tokenizer(tiny_model, path)


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path):
    """Makes run directories: folder("name", {spec}, files={"data/train.jsonl": rows})."""

    def make(name: str, spec: dict, files: dict[str, list[dict]]) -> Folder:
        path = tmp_path / name
        for file, rows in files.items():
            write_rows(path / file, rows)
        spec = {"threads": 1, "seed": 7, **spec}
        if "models" not in spec:
            spec.setdefault("model", str(tiny_model))
        (path / "spec.json").write_text(json.dumps(spec))
        return Folder(path)

    return make
