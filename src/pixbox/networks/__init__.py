"""Networks that label pixels: raw pictures in, logits out."""
