#!/usr/bin/env bash
# install.sh VENV EXTRA [LOCKS]: installs this checkout in editable form, and what it needs in the versions of a lock.
#
# EXTRA is local (what the demonstration needs) or dev (what the tests and checks need); LOCKS is a folder as scripts/lock.py
# writes it. Every package is checked by its hash, but torch: which build of it is right depends on the machine.
#
# llama-cpp-python is compiled: in a form that runs on every x86-64 CPU of the last ten years, because a default build
# crashes on CPUs with AMX. The wheel is kept, so that it is built once.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 extra=$2 locks=${3:-locks}
wheels=.venv/wheels

# Settings of the caller that would install elsewhere, or ask hashes of what has none.
unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_HASHES
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

stop() {
    printf '%s\n' "$@" >&2
    exit 1
}

pip() {
    "$venv/bin/python" -m pip --quiet "$@" || failed
}

# pip has said what went wrong; this is what can be done about the usual causes.
failed() {
    local lines=("" "pip could not install the packages; its reason is above. What to type, where it is")
    case ${ALL_PROXY:-${all_proxy:-}}${HTTPS_PROXY:-${https_proxy:-}} in
        *socks*) lines+=("  a SOCKS proxy, which pip does not support:  ALL_PROXY= HTTPS_PROXY=http://HOST:PORT make ...") ;;
    esac
    lines+=(
        "  no direct connection:     HTTPS_PROXY=http://HOST:PORT make ..."
        "  no index but a mirror:    PIP_INDEX_URL=ADDRESS make ..."
        "  an unknown certificate:   PIP_CERT=FILE make ..."
        "  a hash that differs:      make lock    (if you trust what your index has)"
    )
    stop "${lines[@]}"
}

# optional PACKAGE WORDS: installs a package of the system. Where that cannot be done it says so and goes on: the suite says what
# it could not run.
optional() {
    if ! command -v apt-get >/dev/null; then
        echo "$2 Install $1 with the package manager of this system." >&2
    elif [ "$(id -u)" != 0 ]; then
        echo "$2 Type: sudo apt-get install $1" >&2
    elif ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1"; } >&2; then
        echo "$2 apt-get could not install it; its reason is above. Type: apt-get install $1" >&2
    fi
}

# Editable installations by pyproject.toml came with 21.3; Python 3.11 brings 22.3 at least.
"$venv/bin/python" -c 'import pip, sys; sys.exit([int(n) for n in pip.__version__.split(".")[:2]] < [22, 3])' ||
    pip install --upgrade pip

pip install --no-deps --require-hashes --requirement "$locks/$extra.txt"

if [ "$extra" = dev ]; then
    pip install --requirement locks/torch.txt

    llama=$(sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' "$locks/compiled.txt")
    if ! compgen -G "$wheels/llama_cpp_python-$llama-*.whl" >/dev/null; then
        if ! command -v "${CXX:-c++}" >/dev/null; then
            if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
                apt-get update -qq && apt-get install -y -qq g++
            elif command -v apt-get >/dev/null; then
                stop "llama-cpp-python is compiled and needs a C++ compiler. Type: sudo apt-get install g++"
            elif [ "$(uname)" = Darwin ]; then
                stop "llama-cpp-python is compiled and needs a C++ compiler. Type: xcode-select --install"
            else
                stop "llama-cpp-python is compiled and needs a C++ compiler: install g++ or clang, or set CXX."
            fi
        fi
        echo "Compiling llama-cpp-python $llama, once: about four minutes on two cores." >&2
        CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF" \
            "$venv/bin/python" -m pip --quiet wheel --no-deps --no-build-isolation --require-hashes \
            --wheel-dir "$wheels" --requirement "$locks/compiled.txt" ||
            stop "llama-cpp-python could not be built; pip says why above. All else is installed: make demo needs it not."
    fi
    pip install --no-deps --no-index "$wheels/llama_cpp_python-$llama-"*.whl

    # The tests of the Postgres store start a server of their own: only its programs are needed.
    if ! command -v initdb >/dev/null && ! compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            # the package would start a server, which nobody here uses
            mkdir -p /etc/postgresql-common
            [ -e /etc/postgresql-common/createcluster.conf ] ||
                echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        fi
        optional postgresql "The tests of the Postgres store need the programs of a Postgres server."
    fi

    # The sandbox of the tier `namespace`, and the attacks on sandboxes: without it they are not run, and say so.
    if [ "$(uname)" = Linux ] && ! command -v bwrap >/dev/null; then
        optional bubblewrap "Without bubblewrap sandboxes isolate less, and the tests of the stronger tier are not run."
    fi
fi
pip install --no-deps --no-build-isolation --editable .
