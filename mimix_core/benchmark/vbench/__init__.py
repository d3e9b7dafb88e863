"""VBench's dimensions (Vchitect/VBench, Apache-2.0) ported: same weights and values, one decode.

``dimensions`` lists them and describes a dimension module; ``evaluate`` scores a set of videos.
"""
