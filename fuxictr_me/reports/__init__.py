"""Tables, figures and pages of runs; needs the [report] extra."""
