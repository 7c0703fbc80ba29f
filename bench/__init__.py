"""What Vestibule costs, beside others in the same minutes: `python -m bench`. Never imported by the product or its tests."""
