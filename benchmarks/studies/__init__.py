"""The studies of the DyWeight paper, one file each; docs/studies.md says what they found."""
