"""Engines: who maps work over parts."""
