"""MPS-AMS: masked patches selection and adaptive masking for few-label medical segmentation."""

__version__ = "1.0"
