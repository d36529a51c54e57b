"""BIDS data sets with their tables of participants and sessions."""
