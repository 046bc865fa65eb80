"""How likely is a click, and a sale: features, LightGBM models, calibration, manifest."""
