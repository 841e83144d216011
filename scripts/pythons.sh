#!/usr/bin/env bash
# pythons.sh [PYTEST ARGUMENTS]: the suite, as locked, on each Python of 3.11 to 3.13 that is installed here.
#
# In environments of their own, .venv-3.11 and so on, which are kept. Pythons are looked for on PATH and among those of pyenv
# and uv; PYTHONS="3.12 3.13" names some of them.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
    local candidate
    for candidate in $(type -ap "python$1") "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python \
        "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-"$1".*/bin/python; do
        # a shim of pyenv may be there for a Python that is not
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

tested=() missing=() failed=()
for version in ${PYTHONS:-3.11 3.12 3.13}; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        missing+=("$version")
        continue
    fi
    echo "+ Python $version: $python" >&2
    scripts/venv.sh "$python" ".venv-$version"
    scripts/install.sh ".venv-$version" dev
    ".venv-$version/bin/python" -m pytest -n 2 --dist worksteal "$@" || failed+=("$version")
    tested+=("$version")
done

echo "tested on Python ${tested[*]:-none}; not installed here: ${missing[*]:-none}; failed on: ${failed[*]:-none}"
[ ${#tested[@]} -gt 0 ] && [ ${#failed[@]} -eq 0 ]
