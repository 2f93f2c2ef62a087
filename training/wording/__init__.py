"""How reports and messages say things."""
