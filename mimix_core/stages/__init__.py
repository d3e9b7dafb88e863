"""The data stages, one package each: only tables pass between them, none imports another."""
