#!/usr/bin/env bash
# A new user's first minutes, offline: create a system, ask it something, look at what happened, prove it again.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PATH=$root/.venv/bin:$PATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# The demonstration is the same whatever the caller's shell and home folder hold.
for name in $(compgen -e | grep -E "^(LLLM|OPENAI)_|_API_KEY$|^(API_URL|API_KEY|MODEL_NAME)$" || true); do unset "$name"; done

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }

say lllm create mysystem
lllm create mysystem
cd mysystem

say lllm run '"What is 17 times 23?"' --json
answer=$(lllm run "What is 17 times 23?" --json)
printf '%s\n' "$answer"
session=$(python -c 'import json, sys; print(json.load(sys.stdin)["session"])' <<<"$answer")

say lllm show "$session"
lllm show "$session"

say lllm replay "$session"
lllm replay "$session"
