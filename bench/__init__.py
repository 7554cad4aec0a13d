"""The bench: data, system, load and peers, results and report. Nothing of the product imports it."""
