"""Plays a recipe, `fake_recipe.py RUN_DIR PLAY`: writes events and a result as one does; learns nothing."""

import json
import os
import signal
import sys
import time
from pathlib import Path

run, play = Path(sys.argv[1]), sys.argv[2]
spec = json.loads((run / "spec.json").read_text())
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))


def emit(event: str, **fields: object) -> None:
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps({"seq": 0, "time": time.time(), "event": event, **fields}) + "\n")


def end(status: str, **fields: object) -> None:
    result = {"status": status, "recipe": spec["recipe"], "step": 3, "total_steps": 3}
    result |= {"metrics": {}, "error": None}
    (run / "result.tmp").write_text(json.dumps({**result, "model": None, "kind": None, **fields}))
    (run / "result.tmp").rename(run / "result.json")
    sys.exit(1 if status == "failed" else 0)


def write_model() -> None:
    output = run / "output"
    output.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
        (output / name).write_bytes((run / "models" / "policy" / name).read_bytes())
    (output / "model.safetensors").write_text(f"weights of {run.name}")


def write_samples() -> None:
    output = run / "output"
    output.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in (run / spec["data"]["prompts"]).read_text().splitlines()]
    with (output / "samples.jsonl").open("w") as file:
        for model in spec["models"]:
            for number, row in enumerate(rows[: spec["limit"]]):
                for index in range(spec["samples_per_prompt"]):
                    text = "the same" if number == 0 else f"{model} {index} says {number}"
                    text = "a NUL: \x00" if number == 1 else text
                    sample = {"model": model, "prompt_id": row["id"], "prompt": row["prompt"]}
                    sample |= {"response": text}
                    sample |= {"index": index, "temperature": 1.0, "top_p": 1.0, "seed": 5, "tokens": 3}
                    sample |= {"finished": True, "reward": float(len(text)), "kl": 0.5}
                    file.write(json.dumps(sample) + "\n")


print(f"playing {play}", flush=True)
emit("started", total_steps=3, resumed_from=None)
if play == "garbage":
    with (run / "events.jsonl").open("ab") as file:
        file.write(b"not json\n\n\xff\xfe\n")
        file.write(b'{"event": "metrics", "step": 1, "values": {}, "note": "\\u0000\\ud800"}\n')
if play == "checkpoint-then-die":
    emit("checkpoint", step=2)
if play in ("die", "checkpoint-then-die"):
    os.kill(os.getpid(), signal.SIGKILL)
if play == "crash":
    print("Traceback: something broke", flush=True)
    sys.exit(3)
if play == "fail":
    emit("failed", code="stuck_loss", message="The loss is stuck at ln 2.")
    end("failed", error={"code": "stuck_loss", "message": "The loss is stuck at ln 2."})
if play == "wait":
    emit("progress", step=1, total_steps=3)
    while not (stopped or (run / "cancel").exists()):
        time.sleep(0.01)
    emit("checkpoint", step=1)
    emit("cancelled", step=1)
    end("cancelled", step=1)
if play == "hang":
    while True:
        time.sleep(0.01)
for step in range(1, 4):
    emit("progress", step=step, total_steps=3)
    emit("metrics", step=step, values={"loss": 0.7 - step / 10})
emit("finished", step=3)
if play == "no-model":
    end("succeeded", model="output", kind="policy")
if spec["recipe"] == "sample":
    write_samples()
    end("succeeded", metrics={"candidate/kl": 0.25, "baseline/kl": 0.125})
write_model()
end("succeeded", model="output", kind="reward" if spec["recipe"] == "reward" else "policy")
