"""TRL's trainers on rows of tokens: their losses get the tokens that were read and written, unchanged.

TRL prepares pairs from text, and every token after the prompt carries loss there: results of tools, too. These subclasses take
ids and masks of `lllm.rl.rows` instead. No row is cut: one that is too long is left out, and counted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from lllm.errors import ConfigError
from lllm.rl.data_rows import KINDS
from lllm.rl.trainers.defaults import is_on_cpu, lora_config, settings
from lllm.rl.trainers.local import Local
from lllm.rl.training_data import TrainingData

if TYPE_CHECKING:
    from lllm.rl.trainers.data_training import DataTraining


def build_sft(training: DataTraining, model: Any, data: TrainingData) -> Any:
    """Returns TRL's SFTTrainer on rows of tokens, which takes ids and labels unchanged."""
    values = settings(training.spec, SFTConfig, on_cpu=is_on_cpu(model))
    rows = _fitting(data, values, model, lambda row: len(row["input_ids"]))
    packing = bool(values.get("packing"))
    if not packing:
        values["max_length"] = None
        values["dataset_kwargs"] = {"skip_prepare_dataset": True}
    labels = [
        [one if mask else -100 for one, mask in zip(row["input_ids"], row["assistant_masks"], strict=True)]
        for row in rows
    ]
    dataset = Dataset.from_dict({"input_ids": [row["input_ids"] for row in rows], "labels": labels})
    return ExampleTrainer(
        model=model,
        args=SFTConfig(**values),
        train_dataset=dataset,
        processing_class=training.parts[1],
        peft_config=lora_config(training.spec.lora),
    )


def build_dpo(training: DataTraining, model: Any, data: TrainingData) -> Any:
    """Returns TRL's DPOTrainer on pairs of token rows."""
    values = settings(training.spec, DPOConfig, on_cpu=is_on_cpu(model))
    rows = _fitting(
        data,
        values,
        model,
        lambda row: len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])),
    )
    values["max_length"] = None
    args = DPOConfig(**values)
    return PairTrainer(
        model=model,
        ref_model=_reference(training, model, args),
        args=args,
        data_collator=PairCollator(pad_token_id=training.parts[1].pad_token_id),
        train_dataset=_dataset(rows, "preferences"),
        processing_class=training.parts[1],
        peft_config=lora_config(training.spec.lora),
    )


def build_kto(training: DataTraining, model: Any, data: TrainingData) -> Any:
    """Returns TRL's KTOTrainer on labelled token rows."""
    values = settings(training.spec, KTOConfig, on_cpu=is_on_cpu(model))
    rows = _fitting(data, values, model, lambda row: len(row["prompt_ids"]) + len(row["completion_ids"]))
    values["max_length"] = None
    args = KTOConfig(**values)
    if args.loss_type == "kto" and args.per_device_train_batch_size < 2:
        raise ConfigError(
            "KTO compares the rows of a batch, and per_device_train_batch_size is 1", hint="It is 2 or more."
        )
    # a batch of one label alone would say nothing of the other, and the order of the rows is that of the samples
    shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(training.spec.seed)).tolist()
    return LabelTrainer(
        model=model,
        ref_model=_reference(training, model, args),
        args=args,
        data_collator=LabelCollator(pad_token_id=training.parts[1].pad_token_id),
        train_dataset=_dataset([rows[place] for place in shuffled], "labels"),
        processing_class=training.parts[1],
        peft_config=lora_config(training.spec.lora),
    )


BUILDERS: Final[Mapping[str, Callable[..., Any]]] = {"sft": build_sft, "dpo": build_dpo, "kto": build_kto}


def _fitting(
    data: TrainingData, values: Mapping[str, Any], model: Any, length: Callable[[Mapping[str, Any]], int]
) -> list[dict[str, Any]]:
    """Returns the rows that fit into `max_length` and the model's context. Counts the others."""
    config = model.config.get_text_config()
    _check_ids(data, config.vocab_size)
    context = getattr(config, "max_position_embeddings", None)
    limits = [one for one in (values.get("max_length"), context) if one]
    most = min(limits) if limits else None
    rows = [row for row in data.rows if most is None or length(row) <= most]
    if left := len(data.rows) - len(rows):
        data.rows[:] = rows
        data.dropped["max_length"] = data.dropped.get("max_length", 0) + left
    if not rows:
        raise ConfigError(
            f"all {left} rows are longer than {most} tokens",
            hint="Raise max_length, or sample shorter replies.",
        )
    return rows


def _check_ids(data: TrainingData, size: int) -> None:
    """Raises ConfigError unless the model has every token of the rows; ids of another tokenizer would stand for other words."""
    for place, row in enumerate(data.rows):
        for name in KINDS[data.kind]:
            if name.endswith("_ids") and (most := max(row[name], default=0)) >= size:
                raise ConfigError(
                    f"row {place} has the token {most} in {name}, and the model has {size} tokens",
                    hint="The data are of another model. Rows with texts alone are tokenised for this one: tokenize=True.",
                )


def _dataset(rows: list[dict[str, Any]], kind: str) -> Dataset:
    return Dataset.from_dict({name: [row[name] for row in rows] for name in KINDS[kind]})


def _reference(training: DataTraining, model: Any, args: Any) -> Any:
    """Returns a frozen copy of the model; None where adapters can be switched off instead, or where its log-probabilities are
    computed before the training."""
    if training.spec.lora is not None or hasattr(model, "peft_config") or args.precompute_ref_log_probs:
        return None
    found = copy.deepcopy(model)
    vars(found).pop("forward", None)  # of an earlier trainer: it would call the model, not the copy
    return found.eval().requires_grad_(False)


def _masks(rows: list[list[int]], like: Any) -> Any:
    """Returns masks as a tensor of the shape of another one, padded on the right."""
    out = torch.zeros_like(like)
    for place, row in enumerate(rows):
        out[place, : len(row)] = torch.tensor(row, dtype=out.dtype)
    return out


class PairCollator(DataCollatorForPreference):  # type: ignore[misc]  # trl has no types
    """TRL's collator, with the masks of the rows."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Chosen ones first, then rejected ones."""
        batch: dict[str, Any] = super().torch_call(examples)
        rows = [
            [0] * len(one["prompt_ids"]) + list(one[f"{side}_mask"])
            for side in ("chosen", "rejected")
            for one in examples
        ]
        batch["completion_mask"] = _masks(rows, batch["completion_mask"])
        return batch


class LabelCollator(DataCollatorForUnpairedPreference):  # type: ignore[misc]  # trl has no types
    """TRL's collator, with the masks of the rows."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The rows, and where KL is measured, each prompt with the completion of another row."""
        batch: dict[str, Any] = super().torch_call(examples)
        for prefix in ("", "KL_"):
            if f"{prefix}completion_mask" in batch:
                rows = [
                    [0] * len(one["prompt_ids"]) + list(one[f"{prefix}completion_mask"]) for one in examples
                ]
                batch[f"{prefix}completion_mask"] = _masks(rows, batch[f"{prefix}completion_mask"])
        return batch


class ExampleTrainer(Local, SFTTrainer):  # type: ignore[misc]  # trl has no types
    """TRL's SFTTrainer, which takes rows that have their tokens."""


class PairTrainer(Local, DPOTrainer):  # type: ignore[misc]  # trl has no types
    """TRL's DPOTrainer on rows that have their tokens."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return dataset


class LabelTrainer(Local, KTOTrainer):  # type: ignore[misc]  # trl has no types
    """TRL's KTOTrainer on rows that have their tokens."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if not self.calculate_KL:
            return dataset
        size = args.per_device_train_batch_size

        def rotated(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
            """Each prompt with the completion before it in its batch."""
            return {
                f"KL_{name}": [rows[name][-1], *rows[name][:-1]]
                for name in ("completion_ids", "completion_mask")
            }

        return dataset.map(rotated, batched=True, batch_size=size)
