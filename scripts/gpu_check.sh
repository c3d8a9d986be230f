#!/bin/sh
# All that a GPU can show in eight minutes: see the head of scripts/gpu_check.py. `pack` makes what is carried there.
# It was never run on a GPU.
set -e
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
if [ -x .venv/bin/python ] && [ "$PYTHON" = python3 ]; then PYTHON=.venv/bin/python; fi
if [ "${1:-}" = pack ]; then
    shift
    PYTHONPATH=. exec "$PYTHON" -m scripts.gpu_carry "$@"
fi
# What the machine has is taken; of the wheels that came along, those that it lacks are installed beside it.
CARRY=${CARRY:-runs/gpu_carry}
if ls "$CARRY"/wheels/*.whl >/dev/null 2>&1; then
    SITE=$(mktemp -d)
    PYTHONPATH=. "$PYTHON" -m scripts.gpu_carry --install "$CARRY/wheels" --target "$SITE"
    PYTHONPATH="$SITE${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="${PYTHONPATH:-}"
exec "$PYTHON" -m scripts.gpu_check --carry "$CARRY" "$@"
