"""Pages that people pass around: one file each, which needs no network.

``thumbnails`` makes small images, ``rendering`` fills templates and holds what is trusted; ``report`` is a ranking.
"""
