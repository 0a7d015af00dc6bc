"""The speedrun: accurate at few steps after little training, and the board of its entries."""
