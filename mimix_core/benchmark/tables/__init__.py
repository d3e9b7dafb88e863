"""Tables of the paper and further breakdowns for any systems: results, layout and export."""
