"""Typed documents about the engine, which commands and the page show."""
