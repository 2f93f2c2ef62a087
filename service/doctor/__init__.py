"""The checks of `stridecast doctor`, each in its file; `examination` puts them together."""
