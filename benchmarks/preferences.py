"""Measures the effect of DPO, SFT and KTO on a model's own rollouts on the held-out reward, and the same with shuffled rewards.

    python -m benchmarks.preferences --quick
    python -m benchmarks.preferences [--trainers dpo] [--seeds 1] [--first 120] [--held-out 400] [--out FOLDER]

The task is that of `benchmarks.rl`: word problems that the embedded model solves in some 60 of 100 cases, other numbers in
the held-out rows. Each run samples 8 rollouts of each of the first rows, chooses from them, trains three epochs, and answers
the held-out rows greedily before and after; the difference is taken row by row, with its 95% interval. `shuffled` has the
rewards of each row shuffled among its rollouts: a rise there is not an effect of the rewards.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks.rl import environment, rows
from lllm import DPO, KTO, SFT

TRAINERS = {"dpo": DPO, "sft": SFT, "kto": KTO}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainers", default="dpo")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--controls", default="real,shuffled")
    parser.add_argument("--first", type=int, default=120)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--rate", type=float, default=1e-5)
    parser.add_argument("--out", default="runs/benchmark-preferences")
    parser.add_argument("--quick", action="store_true", help="few rows, which show nothing yet")
    options = parser.parse_args()
    if options.quick:
        options.first, options.held_out = 16, 40
    import torch

    torch.set_num_threads(1)
    held_out = rows(options.held_out, "held out")
    for name in options.trainers.split(","):
        for control in options.controls.split(","):
            for seed in range(options.seed, options.seed + options.seeds):
                began = time.monotonic()
                folder = Path(options.out) / f"{name}-{control}-{seed}"
                training = environment() >> TRAINERS[name](
                    "embedded",
                    output_dir=folder,
                    seed=seed,
                    store="none",
                    control="shuffled" if control == "shuffled" else None,
                    first=options.first,
                    samples=8,
                    temperature=1.2,
                    max_tokens=48,
                    learning_rate=options.rate,
                    num_train_epochs=3,
                    per_device_train_batch_size=8,
                    lr_scheduler_type="constant_with_warmup",
                    warmup_steps=3,
                    logging_steps=5,
                )
                before = training.evaluate(held_out)
                training.train()
                after = training.evaluate(held_out)
                found = after.against(before)
                low, high = found.interval or (found.mean, found.mean)
                result = {
                    "trainer": name,
                    "control": control,
                    "seed": seed,
                    "rows": len(training.data),
                    "before": before.record(),
                    "after": after.record(),
                    "difference": found.mean,
                    "interval": [low, high],
                    "history": training.trainer.state.log_history,
                    "seconds": time.monotonic() - began,
                }
                (folder / "result.json").write_text(json.dumps(result, indent=1))
                print(
                    f"{name}, {control}, seed {seed}: {len(training.data)} rows; held-out reward {before.reward:.3f} -> "
                    f"{after.reward:.3f}, {found.mean:+.3f} (95% {low:+.3f} to {high:+.3f}); {result['seconds']:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
