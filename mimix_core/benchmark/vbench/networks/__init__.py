"""The networks behind VBench's dimensions, loading upstream's weights by their own names."""
