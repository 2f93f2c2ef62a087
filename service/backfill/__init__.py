"""Labels what a topic holds already, from one moment to another, and ends."""
