"""Indexes behind one protocol: exact and IVF."""
