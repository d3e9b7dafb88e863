"""VBench's dimensions (Vchitect/VBench, Apache-2.0), ported: same weights, same values, one decode.

``video`` says what a dimension module is; ``run`` scores a folder of videos with several of them.
"""
