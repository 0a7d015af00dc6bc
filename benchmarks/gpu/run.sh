#!/usr/bin/env bash
# Measure leanspike on this machine's GPU; see README.md beside this file.
#   benchmarks/gpu/run.sh [--wheels FOLDER] [--data FOLDER]... [--minutes 8] [--rehearse] ...
# PYTHON names the Python that has torch (python3). Nothing of the machine's own is changed: what
# lacks is unpacked from the wheels into a folder that goes when this ends.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
wheels=
rest=()
while (($#)); do
    case $1 in
        --wheels) wheels=$2 && shift 2 ;;
        --wheels=*) wheels=${1#*=} && shift ;;
        *) rest+=("$1") && shift ;;
    esac
done
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" "$root/benchmarks/gpu/install.py" "$site" "$wheels"
if [[ -z ${LEANSPIKE_COMMIT:-} && -f $wheels/COMMIT ]]; then
    LEANSPIKE_COMMIT=$(<"$wheels/COMMIT")
    export LEANSPIKE_COMMIT
fi
export PYTHONPATH=$site:$root/src:$root${PYTHONPATH:+:$PYTHONPATH}
"$python" -m benchmarks.gpu.measure ${rest[@]+"${rest[@]}"} &
child=$!
trap 'kill "$child" 2>/dev/null' TERM INT
status=0
wait "$child" || status=$?
if kill -0 "$child" 2>/dev/null; then wait "$child" || true; fi
exit "$status"
