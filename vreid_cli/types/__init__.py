"""The nouns that every stage shares, by subject.

Ids and labels are text, kept verbatim; an absent label is ``None``. ``..._index`` is a position in an array.
"""
