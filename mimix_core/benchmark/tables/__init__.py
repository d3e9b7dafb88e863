"""The paper's tables for any systems: what was measured, how it is counted, how it is written."""
