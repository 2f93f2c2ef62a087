"""What `stridecast doctor` looks at, each in a file of its own: the group, the records, and what devices send."""
