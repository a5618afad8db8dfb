#!/usr/bin/env bash
# Make the conda environment "dcase2024" with everything installed.
#
#     bash conda_create_environment.sh
#     conda activate dcase2024
#
# TORCH_INDEX=https://download.pytorch.org/whl/cpu in front takes torch from that package index;
# another environment's name may be given as the argument. Run again, it brings the environment
# up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

name="${1:-dcase2024}"
python="3.11"

if [[ "$name" == -* ]]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]##*/}"
    exit 2
fi

if ! command -v conda >/dev/null; then
    echo "error: conda is not on PATH; install Miniforge and open a new shell, or use" \
        "'make setup', which needs no conda" >&2
    exit 1
fi
if ! command -v "${CC:-cc}" >/dev/null; then
    echo "error: no C compiler (${CC:-cc}), which sed_scores_eval is built with; install one" \
        "(Debian, Ubuntu: apt install build-essential)" >&2
    exit 1
fi

in_environment() {
    conda run --no-capture-output --name "$name" "$@"
}

if in_environment python --version >/dev/null 2>&1; then
    echo "environment $name is there; bringing it up to date"
else
    conda create --yes --name "$name" "python=$python" pip
fi
if [[ -n "${TORCH_INDEX:-}" ]]; then
    torch="$(sed -n '/^ *"\(torch[<>=][^"]*\)".*/{s//\1/p;q;}' pyproject.toml)"
    in_environment python -m pip install --index-url "$TORCH_INDEX" "$torch"
fi
in_environment python -m pip install --editable ".[dev]"
echo "done; now: conda activate $name"
