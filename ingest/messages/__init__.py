"""What records say: readings and texts decoded into columns, labels encoded, dead letters."""
