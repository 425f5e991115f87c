"""Devices, memory budgets, progress bars and executors."""
