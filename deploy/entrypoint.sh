#!/bin/sh
# Numba takes its cache only from where it can write, and the image can't be written to. Without it the worker compiles.
mkdir -p "$NUMBA_CACHE_DIR" && cp -R /opt/stridecast/compiled/. "$NUMBA_CACHE_DIR"
exec stridecast "$@"
