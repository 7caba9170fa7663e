#!/usr/bin/env bash
# Puts the chart library of package-lock.json into OUT (a directory); its licence is kept with it.
# Without a registry the rest of the build goes on: only the page needs it, and says so.
# usage: fetch-charts.sh OUT
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
work="$1/npm"
mkdir -p "$work"
cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$work/"
if ! npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund --loglevel=error; then
    echo "the chart library could not be fetched: godwit-lab will write no HTML" >&2
    exit 0
fi
cp "$work/node_modules/echarts/LICENSE" "$1/echarts.LICENSE"
cp "$work/node_modules/echarts/dist/echarts.min.js" "$1/"
