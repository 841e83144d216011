"""Environments that ship: tasks with rewards, each with rows to train on and rows held out.

rl/arithmetic   sums in English, with a calculator
rl/sharing      divisions in words, a narrow task for experiments with the embedded model
rl/schema       facts in a text, as JSON that fits a schema
rl/code         functions to write, tested in the sandbox
rl/maze         a game with tools: find the way out
rl/doors        a game of several turns: each door asks a sum

Each is an `RLEnv` whose rows are made from a seed, in the process, without a download.
"""
