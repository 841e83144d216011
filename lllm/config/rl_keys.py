"""Every key of an environment's YAML file and of train.yaml, as `lllm.config.keys` has those of the other files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lllm.config.keys import Key, Section
from lllm.config.kinds import (
    COUNT,
    DEPTH,
    FLAG,
    FREE,
    MONEY,
    NAME,
    NAMES,
    PATH,
    POSITIVE,
    TEXT,
    TIME_LIMIT,
    WHOLE,
    Kind,
    choice,
)
from lllm.errors import listing

COLUMNS: Final = Kind(
    "names of columns of the dataset: prompt, messages, answer, info or a name of your own, each with its column there",
    {"type": "object", "additionalProperties": NAME.schema},
)
REWARDS: Final = Kind(
    "a list of `module:function`, or of mappings with function, weight, optional and name",
    {
        "type": "array",
        "items": {
            "anyOf": [
                NAME.schema,
                {
                    "type": "object",
                    "properties": {
                        "function": NAME.schema,
                        "weight": {"type": "number"},
                        "optional": {"type": "boolean"},
                        "name": NAME.schema,
                    },
                    "required": ["function"],
                },
            ]
        },
    },
)
SESSIONS: Final = Kind(
    "a list of ids of sessions, `logged`, or a file", {"anyOf": [NAME.schema, NAMES.schema]}
)
DATA_KEYS: Final[Mapping[str, Kind]] = {
    "file": PATH,
    "sessions": SESSIONS,
    "max_cost": MONEY,
    "min_tokens": COUNT,
    "max_tokens": POSITIVE,
}
"""The keys of `data` where it is a mapping."""
DATA: Final = Kind(
    f"a path, or a mapping with {listing(DATA_KEYS)}",
    {
        "anyOf": [
            PATH.schema,
            {"type": "object", "properties": {name: one.schema for name, one in DATA_KEYS.items()}},
        ]
    },
)
LORA: Final = Kind("true, or arguments of peft's LoraConfig", {"anyOf": [{"type": "boolean"}, FREE.schema]})

ENVIRONMENT: Final[Mapping[str, Key | Section]] = {
    "name": Key(NAME, "Its name, as `lllm list environments` shows it; by default that of the file."),
    "description": Key(TEXT, "What the task is, in a sentence."),
    "dataset": Key(
        NAME,
        "The rows: a JSON Lines file, relative to this one, or `module:attribute`, a list, a Dataset, or a function that "
        "returns one.",
    ),
    "columns": Key(COLUMNS, "Other names of the dataset's columns: `{prompt: question, answer: solution}`."),
    "rewards": Key(
        REWARDS,
        "The rewards: `module:function`, or `{function: module:function, weight: 0.2, optional: true, name: short}`.",
    ),
    "tools": Key(NAMES, "Tools of the task: registered names, or `module:function`.", []),
    "system_prompt": Key(TEXT, "The system prompt of policies that are models."),
    "max_turns": Key(DEPTH, "Replies of the policy in a rollout; null: no limit.", 8),
    "auto_execute_tools": Key(FLAG, "false: a reply that calls tools ends the rollout.", True),
    "setup": Key(NAME, "`module:function` or `module:Class`: what it returns is the rollout's state."),
    "opening": Key(NAME, "`module:function`: a text from the state that is added to the prompt."),
    "step": Key(
        NAME, "`module:function`: the environment's answer to each last reply; None ends the rollout."
    ),
    "done": Key(NAME, "`module:function`: whether the rollout ends although `step` had an answer."),
    "reference": Key(
        NAME, "`module:function`: what a right rollout ends with, for the check; else the row's answer."
    ),
    "limits": Section(
        "Seconds that code of the environment may take; null: no limit.",
        {
            "setup": Key(TIME_LIMIT, "`setup`.", 60.0),
            "step": Key(TIME_LIMIT, "`opening`, `step` and `done`.", 60.0),
            "score": Key(TIME_LIMIT, "One reward.", 60.0),
            "teardown": Key(TIME_LIMIT, "Closing the state.", 30.0),
        },
    ),
    "cut": Key(
        choice("score", "mask"),
        "A rollout that ran into a limit is scored like any other (`score`), or is no training row (`mask`).",
        "score",
    ),
    "isolated": Key(
        FLAG,
        "true: setup, step, tools and the others run in a process of their own, killed at its limits.",
        False,
    ),
    "seeds": Key(
        FLAG, "Whether the rollout's seed is sent with its requests; by default where the model takes one."
    ),
}

TRAIN: Final[Mapping[str, Key | Section]] = {
    "environment": Key(
        NAME, "What to train in: a registered name, a YAML file relative to this one, or `module:attribute`."
    ),
    "trainer": Key(NAME, "How: grpo, rloo, sft, dpo or kto.", "grpo"),
    "model": Key(
        NAME,
        "What is trained: `embedded`, a folder that `save_pretrained` wrote or a GGUF file (relative to the working folder), "
        "or a name of lllm.toml's [models].",
        "embedded",
    ),
    "agent": Key(
        NAME,
        "The agent of the system's YAML file whose calls the rollouts are; by default the model alone, with the "
        "environment's tools and system prompt.",
    ),
    "system": Key(PATH, "The YAML file that has the agent; by default the one of lllm.toml."),
    "data": Key(
        DATA,
        "What sft, dpo and kto train on in place of rollouts: a JSONL file of rows or a folder that `TrainingData.save` wrote "
        "(relative to this file), or `{sessions: logged}`: ids of sessions, all of the log, or a file with lines "
        '`{"session": ID}`; of these, those within `max_cost`, `min_tokens` and `max_tokens`.',
    ),
    "output_dir": Key(
        PATH,
        "Where checkpoints, the trained model, curves and its card go; relative to this file.",
        "runs/rl",
    ),
    "seed": Key(WHOLE, "Seed of sampling, of the order of rows and of adapters' initial weights.", 0),
    "lora": Key(LORA, "Train an adapter only: true, or arguments of peft's LoraConfig (`{r: 8}`)."),
    "concurrency": Key(POSITIVE, "Rollouts at once.", 32),
    "store": Key(
        choice("configured", "none"), "The log of the rollouts; `none`: they are not kept.", "configured"
    ),
    "force": Key(FLAG, "Train although the look at the rewards has found a problem.", False),
    "gguf": Key(
        choice("F32", "F16", "BF16", "Q8_0"),
        "Write the trained model as a GGUF file too, as `output_dir`/model.gguf.",
    ),
    "config": Key(
        FREE,
        "Arguments of TRL's config class, by its names: max_steps, learning_rate, num_generations, save_steps, ...; and "
        "options of the trainer: samples, margin, threshold, stop_on, ...",
        {},
    ),
}
