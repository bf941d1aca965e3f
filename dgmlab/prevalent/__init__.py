"""Prevalent: pre-training an agent that follows instructions through houses it has never seen.

Hao, Li, Li, Carin, Gao: "Towards Learning a Generic Agent for Vision-and-Language Navigation via Pre-training", CVPR 2020,
arXiv 2002.10638.
"""
