"""ModelConfig: R3, R5, R6, R7, R22, R32."""

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm import LLM, BackendType, DeviceType, ModelConfig, VLLMModel, load_config
from lllm.backends.runner.config import FIELDS, LOADING, SAMPLING
from lllm.errors import ConfigError, LLMError, UnknownKeyError

SETTINGS: dict[str, Any] = {
    "model_path": "model.gguf",
    "backend": "llama.cpp",
    "temperature": 0,
    "max_tokens": 5,
    "repeat_penalty": 1.1,
    "context": 64,
    "n_threads": 2,
    "stop": "###",
}


def test_dict_and_typed_forms_are_equal() -> None:
    """R3: nested, flat and typed settings give one value."""
    typed = ModelConfig(**SETTINGS)
    assert ModelConfig.from_dict(SETTINGS) == typed == ModelConfig.from_dict({"llm": SETTINGS, "ui": {}})
    assert ModelConfig.from_dict(typed.to_dict()) == typed
    assert (typed.repetition_penalty, typed.n_ctx, typed.stop) == (1.1, 64, ("###",))


def test_an_unknown_key_names_the_nearest() -> None:
    """R3."""
    for make in (lambda: ModelConfig(temprature=0.1), lambda: ModelConfig.from_dict({"temprature": 0.1})):  # type: ignore[call-arg]
        with pytest.raises(UnknownKeyError, match="Did you mean 'temperature'"):
            make()


def test_all_problems_are_in_one_message() -> None:
    """R32: three errors, one of them a key."""
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_dict({"temprature": 1, "top_p": math.nan, "max_tokens": True})
    told = str(caught.value)
    assert told.startswith("3 settings of the model are wrong:")
    assert all(
        word in told for word in ("'temprature'", "'temperature'", "top_p is nan", "max_tokens is True")
    )
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, LLMError)


def test_two_spellings_of_one_setting() -> None:
    with pytest.raises(ConfigError, match="'context' is another spelling of 'n_ctx'"):
        ModelConfig.from_dict({"n_ctx": 1, "context": 2})


def test_it_is_frozen_and_auto_by_default() -> None:
    """R5, R7: the device is auto, and there are no stop strings."""
    config = ModelConfig(model_path="m.gguf")
    assert config.device is DeviceType.AUTO
    assert config.stop is None
    assert config.sampling == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.temperature = 1  # type: ignore[misc]


def test_sampling_and_loading_are_split() -> None:
    """R5, R12: every setting has one side, and none both."""
    assert not set(SAMPLING) & set(LOADING)
    assert set(FIELDS) == {*SAMPLING, *LOADING, "model_path", "backend", "device", "timeout"}
    config = ModelConfig.from_dict(SETTINGS)
    assert set(config.sampling) == {"temperature", "max_tokens", "repetition_penalty", "stop"}
    assert set(config.loading) == {"n_ctx", "n_threads"}


BOUNDS = [
    (name, rule) for name, rule in {**SAMPLING, **LOADING}.items() if rule.kind in ("number", "integer")
]


@pytest.mark.parametrize(("name", "rule"), BOUNDS, ids=[name for name, _ in BOUNDS])
def test_bounds(name: str, rule: Any) -> None:
    """R5: the bound is in (or out, where it is open), the value beyond is out; so are NaN, infinity, bool and text."""
    step = 1 if rule.kind == "integer" else 1e-9
    for bound, outward in ((rule.low, -step), (rule.high, step)):
        if bound is None:
            continue
        inside = bound - outward if rule.above and outward < 0 else bound
        assert getattr(ModelConfig(**{name: inside}), name) == inside
        with pytest.raises(ConfigError, match=name):
            ModelConfig(**{name: bound + outward})
    for wrong in (math.nan, math.inf, True, "1", [1], 1.5 if rule.kind == "integer" else "x"):
        with pytest.raises(ConfigError, match=name):
            ModelConfig(**{name: wrong})


@settings(deadline=None)  # the machine may be busy
@given(
    st.dictionaries(
        st.sampled_from(FIELDS), st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.text())
    )
)
def test_any_value_is_a_config_or_a_config_error(given_: dict[str, Any]) -> None:
    """R5: nothing else comes out, and what comes out reads back as itself."""
    try:
        made = ModelConfig(**given_)
    except ConfigError:
        return
    assert ModelConfig.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    ("spelled", "kind"),
    [
        ("llama.cpp", BackendType.LLAMA_CPP),
        ("llama_cpp", BackendType.LLAMA_CPP),
        ("llama-cpp", BackendType.LLAMA_CPP),
        ("Transformers", BackendType.TRANSFORMERS),
        (BackendType.EMBEDDED, BackendType.EMBEDDED),
    ],
)
def test_backends_by_text_or_member(spelled: str, kind: BackendType) -> None:
    """R6."""
    assert ModelConfig(backend=spelled).backend is kind
    assert ModelConfig(backend=[spelled, "mine"]).backends == (kind, "mine")


@pytest.mark.parametrize("device", ["CPU", "cuda", "cuda:1", "mps", DeviceType.AUTO])
def test_devices_by_text_or_member(device: str) -> None:
    """R6, R17."""
    assert ModelConfig(device=device).device == device.lower()


def test_a_device_that_is_none() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'cuda'"):
        ModelConfig(device="cudda")


def test_chat_formats_by_name() -> None:
    """R11: a name stands for its template."""
    assert "<|im_start|>" in str(ModelConfig.from_dict({"chat_format": "chatml"}).chat_template)
    with pytest.raises(ConfigError, match="chatml"):
        ModelConfig(chat_template="llama-2")


def test_a_bad_config_imports_no_engine() -> None:
    """R10, R32: what is wrong is said before torch, transformers or llama.cpp are imported."""
    program = """
import sys
from lllm import LLMRunnerFactory
from lllm.errors import ConfigError
for bad in ({"backend": "transformers", "model_path": "m", "temperature": -1}, {"backend": "transformers"},
            {"backend": "llama_cpp", "model_path": "m.gguf", "compile": True}):
    try:
        LLMRunnerFactory.create_runner(bad)
    except ConfigError:
        continue
    raise SystemExit(f"{bad} was taken")
LLMRunnerFactory.create_runner({"backend": "transformers", "model_path": "m"})
heavy = {"torch", "transformers", "llama_cpp", "xllamacpp", "numpy", "gguf"} & set(sys.modules)
raise SystemExit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("warm", [2, 2.0001])
def test_a_temperature_has_one_bound_everywhere(warm: float) -> None:
    def refused(make: Callable[[], object]) -> bool:
        try:
            make()
        except ConfigError:
            return True
        return False

    every = [
        lambda: ModelConfig(backend="llama_cpp", model_path="m.gguf", temperature=warm),
        lambda: LLM("scripted", temperature=warm),
        lambda: VLLMModel("m", "http://127.0.0.1:9", default_temperature=warm),
        lambda: load_config(overrides=[f"temperature={warm}"]),
    ]
    assert [refused(make) for make in every] == [warm > 2] * len(every)
