"""Prediction: a trained task and pictures in, results and files out. Knows no trainer."""
