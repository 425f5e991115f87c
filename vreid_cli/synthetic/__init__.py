"""A small labelled data set in VeRi-776's layout, rendered here: vehicles in 3-D, seen by cameras that differ.

Every vehicle is a handful of solids (body, cabin, cargo box) covered with flat patches (windows, lights, stripes).
A camera projects the patches, paints those that face it from back to front, and spoils the image in its own way.
Several vehicles share each body and paint, so that only smaller things distinguish them.
"""
