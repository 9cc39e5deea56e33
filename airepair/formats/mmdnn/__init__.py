"""MMdnn: its intermediate representation and its parsers and emitters, on the frameworks of today
(docs/formats.md).
"""
