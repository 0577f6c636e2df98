"""Pages of HTML that stand alone: an evaluation, and what predictions rest on."""
