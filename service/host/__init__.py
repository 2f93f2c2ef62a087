"""The machine around us: processes, signals, folders and the terminal."""
