# What the scripts in this folder share. Sourced, never run.

CACHE=${SPILMAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spilman}

say() { printf 'spilman: %s\n' "$*" >&2; }
die() { printf 'spilman: %s\n' "$*" >&2; exit 1; }
