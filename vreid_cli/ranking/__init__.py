"""Distances between latent representations, and rankings by them."""
