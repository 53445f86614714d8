"""Reports of runs and studies: tables, figures and pages. Figures and pages need the extra ``report``."""
