"""The leaderboard of the public test sets: which figures they hold, rows that were checked, and the checks."""
