"""Environments of other packages as environments of this one.

    from lllm.rl.adapters.reasoning_gym import ReasoningGym     # pip install reasoning-gym
    from lllm.rl.adapters.gymnasium import Gymnasium            # pip install gymnasium
    from lllm.rl.adapters.textarena import TextArena            # pip install textarena
    from lllm.rl.adapters.verifiers import Verifiers            # pip install verifiers, in a venv with this package

None of these packages is in an extra: each has a module here that imports it when it is used.
"""
