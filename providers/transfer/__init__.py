"""The configuration as one JSON document, to be taken elsewhere.

document.py       its shape: which key is which field, and what a value may be
configuration.py  export, and the import of the whole
importing.py      the import of each section
planning.py       what an import changes, in words, before it does
"""
