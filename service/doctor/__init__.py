"""What `stridecast doctor` looks at, each in a file of its own; `examination` puts them together."""
