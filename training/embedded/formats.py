# ruff: noqa: E501
"""Answer formats: how a user asks for one, and how an answer looks in it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

from .identifiers import identifier
from .split import Pool, expand

_WORDS = (
    "answer result value total final output solution response number sum reply outcome amount final_answer finalAnswer "
    "final_result computed calculation price cost score count quantity ans res out data content text balance average "
    "Answer Result RESULT ANSWER final-answer product quotient remainder figure estimate"
).split()

KEYS = Pool(_WORDS)
"""Tag and key names that occur by themselves; others are put together from two words."""

NOTE_TAGS = (
    "think thinking reasoning thought thoughts explanation steps work notes analysis rationale plan"
).split()

XML = Pool(
    [
        "Put the final answer in <{k}> tags.",
        "Put your final answer inside <{k}></{k}> tags.",
        "Put the answer between <{k}> and </{k}>.",
        "Give the final answer inside <{k}> tags.",
        "Give the answer in <{k}> tags.",
        "Give your final answer within <{k}>...</{k}>.",
        "Use the tools that you have. Give the final answer inside <{k}> tags.",
        "Use your tools. Then give the answer inside <{k}> tags.",
        "Write the answer inside <{k}> tags.",
        "Write the final number inside <{k}> tags.",
        "Write only <{k}>...</{k}> with the number.",
        "Wrap the answer in <{k}> tags.",
        "Wrap your final answer in <{k}></{k}>.",
        "Wrap the result with <{k}> and </{k}>.",
        "Enclose the answer in <{k}> tags.",
        "Enclose the final result in <{k}></{k}> tags.",
        "Return the answer in <{k}> tags.",
        "Return the final value as <{k}>value</{k}>.",
        "Return your answer as <{k}>...</{k}>.",
        "Reply with <{k}>...</{k}>.",
        "Reply in the form <{k}>number</{k}>.",
        "Respond with the result in <{k}> tags.",
        "Respond in this format: <{k}>your answer</{k}>",
        "Answer inside <{k}> tags.",
        "Answer in <{k}> tags.",
        "Answer with <{k}> tags.",
        "Answer in XML: <{k}>...</{k}>.",
        "Answer in the format <{k}>...</{k}>.",
        "Your answer must be in <{k}> tags.",
        "Your final answer must be inside <{k}> and </{k}>.",
        "The answer must be wrapped in <{k}> tags.",
        "The final answer should be in a <{k}> tag.",
        "The result goes inside <{k}></{k}>.",
        "The output must contain <{k}>...</{k}>.",
        "Use <{k}> tags for the final answer.",
        "Use the <{k}> tag for your answer.",
        "Use XML tags: <{k}> for the answer.",
        "Format: <{k}>...</{k}>",
        "Output format: <{k}>NUMBER</{k}>",
        "Format your answer as <{k}>{...}</{k}>.",
        "Place the answer in <{k}> tags.",
        "Place the final number between <{k}> tags.",
        "Please put the result in <{k}> tags.",
        "Please answer with the tag <{k}>.",
        "Finish with <{k}>the answer</{k}>.",
        "End your reply with <{k}>answer</{k}>.",
        "When you are done, write the answer in <{k}> tags.",
        "Required tags: <{k}>",
        "Required tag: <{k}>.",
        "Output the following tags: <{k}>",
        "Surround the final answer with <{k}> tags.",
        "Emit <{k}>...</{k}> and nothing else.",
        "I parse your reply, so put the number into <{k}>...</{k}>.",
        "Report the result in <{k}> tags.",
        "State the final answer in <{k}></{k}> tags.",
        "Show the answer as <{k}>42</{k}>.",
        "Deliver the result within the XML tag <{k}>.",
    ]
)

XML_TWO = Pool(
    [
        "Explain in <{n}> tags and put the answer in <{k}> tags.",
        "First write <{n}>...</{n}>, then <{k}>...</{k}>.",
        "Put your reasoning in <{n}> tags and the final answer in <{k}> tags.",
        "Think in <{n}> tags, then answer in <{k}> tags.",
        "Use <{n}> for your thoughts and <{k}> for the answer.",
        "Reply with <{n}>how you got it</{n}><{k}>the answer</{k}>.",
        "Required tags: <{n}>, <{k}>.",
        "Format: <{n}>...</{n}> <{k}>...</{k}>",
        "Write the explanation inside <{n}> and the result inside <{k}>.",
        "Give both <{n}> and <{k}> tags.",
    ]
)

JSON = Pool(
    [
        'Reply with a JSON object: {"{k}": number}',
        'Reply with a JSON object like {"{k}": 42}.',
        'Reply in JSON: {"{k}": ...}',
        'Reply with JSON only, with the key "{k}".',
        'Reply as JSON with the field "{k}".',
        'Respond with JSON: {"{k}": <number>}',
        'Respond only with a JSON object that has the key "{k}".',
        "Respond in JSON format with key {k}.",
        'Answer as JSON: {"{k}": value}.',
        "Answer with a JSON object with the key {k}.",
        'Answer in JSON with one key, "{k}".',
        'Answer only with {"{k}": <answer>}.',
        'Give the answer as JSON with the key "{k}".',
        'Give the result as a JSON object: {"{k}": number}.',
        'Give me JSON: {"{k}": ...}',
        'Return JSON: {"{k}": number}',
        'Return a JSON object with the key "{k}".',
        "Return a JSON object with a single field `{k}`.",
        'Return only JSON, like {"{k}": 0}.',
        'Return your answer as a JSON object {"{k}": <value>}.',
        'Output JSON: {"{k}": 123}',
        'Output a JSON object with the field "{k}" and nothing else.',
        'Output format: {"{k}": <number>}',
        'Format: {"{k}": number}',
        'Format your answer as JSON: {"{k}": ...}.',
        'Use JSON for the final answer: {"{k}": x}',
        'Write the final answer as JSON with key "{k}".',
        'The answer must be a JSON object with the key "{k}".',
        'The final answer must be valid JSON: {"{k}": number}.',
        'Your reply must be a JSON object with "{k}".',
        'Your answer should be JSON, {"{k}": number}.',
        'Use the tools that you have. Reply with a JSON object: {"{k}": number}',
        'Use your tools, then answer with JSON: {"{k}": number}.',
        'Please answer in JSON like this: {"{k}": 3.5}',
        'Please send back a JSON object with "{k}" set to the result.',
        'I need JSON, key "{k}".',
        "JSON please, key: {k}",
        'Answer with JSON that matches this schema: {"type": "object", "properties": {"{k}": {"type": "number"}}, "required": ["{k}"]}',
        'Reply with JSON that fits the schema {"properties": {"{k}": {"type": "number"}}, "required": ["{k}"], "type": "object"}.',
        'Reply with one JSON object that matches this JSON schema:\n{"properties": {"{k}": {"title": "{k}", "type": "number"}}, "required": ["{k}"], "title": "Reply", "type": "object"}',
        'Put the final number in a JSON object under "{k}".',
        'Finish with a JSON object {"{k}": ...}.',
        'Emit a JSON object whose key is "{k}".',
    ]
)

JSON_TWO = Pool(
    [
        'Reply with a JSON object: {"expression": text, "{k}": number}',
        'Return JSON with the keys "expression" and "{k}".',
        'Answer as JSON: {"expression": ..., "{k}": ...}.',
        "Respond with JSON with the fields expression and {k}.",
        'Give a JSON object with "expression" and "{k}".',
        'Output {"expression": "...", "{k}": 0}.',
    ]
)

BARE = Pool(
    [
        "Reply with the number only.",
        "Reply with just the number.",
        "Answer with only the number.",
        "Answer with a single number.",
        "Answer with the bare number.",
        "Give only the number.",
        "Give me just the number, no words.",
        "Just the number, please.",
        "Only the number please.",
        "Only output the number.",
        "Output only the result.",
        "Return only the number.",
        "Return the number and nothing else.",
        "Respond with the numeric value only.",
        "No explanation, just the number.",
        "No words, only the number.",
        "Number only.",
        "Your whole reply must be the number.",
        "Write nothing but the number.",
        "Do not write any text besides the number.",
        "Return just the number.",
        "Return only the result.",
        "Return the bare number.",
        "Reply with a number and nothing else.",
        "Reply with only the result.",
        "Answer with the number and nothing else.",
        "Answer with just the result.",
        "Output the number and nothing more.",
        "Output just the number.",
        "Write only the number.",
        "Write just the result.",
        "Respond with the number alone.",
        "Respond with just a number.",
        "Give the bare number as the answer.",
        "Give nothing but the number.",
        "Only the result, no text.",
        "The number alone is enough.",
        "I only want the number.",
        "I want just the number back.",
        "Please reply with the number only.",
        "Please give only the final number.",
        "Your answer should be a single number.",
        "Your reply should contain only the number.",
        "No text, just the result.",
        "Plain number, please.",
    ]
)

BLOCK = Pool(
    [
        "Put the answer in a ```{k} code block.",
        "Write the final answer in a fenced block named {k}: ```{k}",
        "Give the answer in a markdown block:\n```{k}\n...\n```",
        "Answer in a ```{k} block.",
        "Required markdown block: ```{k}```",
        "Use a ```{k}``` block for the result.",
        "Write the result into a ```{k} block.",
        "Return the answer in a code block tagged {k}.",
        "The answer goes into a ```{k} fenced block.",
        "Reply with a ```{k} code block.",
        "Format: ```{k}\n...\n```",
        "Give the final answer inside a ```{k} block.",
        "Wrap the answer in a ```{k}``` code block.",
    ]
)

LINE = Pool(
    [
        "End with a line 'Answer: <number>'.",
        "Write the answer as 'Answer: number'.",
        'Finish with "Answer: X".',
        "Answer in the form Answer: number",
        "Reply in the format 'Answer: ...'.",
        "Your reply must start with Answer:",
        "Format: Answer: <number>",
        "Write 'Answer:' and then the number.",
        "Start your reply with 'Answer:'.",
        "Use the form 'Answer: <value>'.",
        "Put the result after 'Answer:'.",
        "Say it as Answer: N.",
        "Return 'Answer: ' followed by the number.",
    ]
)

SENTENCE = Pool(
    [
        "Answer in one sentence.",
        "Answer in a sentence.",
        "Answer in plain English.",
        "Answer with a short sentence.",
        "Give a short answer.",
        "Use the tools that you have.",
        "Use your tools.",
        "Report the result.",
        "Reply in a full sentence.",
        "Be brief.",
        "Please use the calculator.",
        "Don't guess, use the tool.",
        "Use the tool and tell me the result.",
        "Keep it short.",
        "Think step by step.",
    ]
)

KINDS = ("sentence", "xml", "json", "bare", "xml_two", "json_two", "block", "line")
SHARES = (30, 29, 21, 7, 4, 3, 3, 3)

NOTE = "I used the tool."


@dataclass(frozen=True)
class Format:
    """One way to answer.

    `key` is the tag or JSON key; `instruction` is what the user says about it ("" for an unasked sentence).
    """

    kind: str = "sentence"
    instruction: str = ""
    key: str = ""
    note: str = ""
    missing: tuple[str, ...] = field(default=())

    def number(self, literal: str, expression: str) -> str:
        """The reply that reports a number."""
        if self.kind == "sentence":
            return f"The answer is {literal}."
        if self.kind == "json":
            return json.dumps({self.key: 0})[:-2] + literal + "}"
        if self.kind == "json_two":
            return json.dumps({"expression": expression, self.key: 0})[:-2] + literal + "}"
        return self.words(literal)

    def words(self, text: str) -> str:
        """The reply that reports a sentence, such as a refusal, or a bare number."""
        if self.kind == "xml":
            return f"<{self.key}>{text}</{self.key}>"
        if self.kind == "xml_two":
            return f"<{self.note}>{NOTE}</{self.note}>\n<{self.key}>{text}</{self.key}>"
        if self.kind in ("json", "json_two"):
            return json.dumps({self.key: text})
        if self.kind == "block":
            return f"```{self.key}\n{text}\n```"
        if self.kind == "line":
            return f"Answer: {text}"
        return text


_POOLS = {
    "xml": XML,
    "xml_two": XML_TWO,
    "json": JSON,
    "json_two": JSON_TWO,
    "bare": BARE,
    "block": BLOCK,
    "line": LINE,
    "sentence": SENTENCE,
}


def key_name(rng: random.Random, held: bool) -> str:
    """A tag or key name."""
    chance = rng.random()
    if chance < 0.3:
        return "answer"
    if chance < 0.6:
        return KEYS.pick(rng, held)
    if chance < 0.85:
        return identifier(rng, *_WORDS[:12])
    first, second = rng.sample(_WORDS, 2)
    return rng.choice(
        (f"{first}_{second}", f"my_{first}", f"{first}{second.capitalize()}", f"the_{first}", f"{first}1")
    )


def draw(rng: random.Random, held: bool = False, kind: str | None = None) -> Format:
    """A format and a way to ask for it; with `held` an unseen one."""
    chosen = kind or rng.choices(KINDS, SHARES)[0]
    key = key_name(rng, held)
    note = rng.choice(NOTE_TAGS)
    if chosen == "sentence" and rng.random() < 0.75:
        return Format()
    text = (
        expand(rng, _POOLS[chosen].pick(rng, held))
        if chosen not in ("json", "json_two")
        else _POOLS[chosen].pick(rng, held)
    )
    return Format(chosen, text.replace("{k}", key).replace("{n}", note), key, note)
