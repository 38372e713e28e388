"""Small cohorts of tensors with planted truth, one per model.

They need no slide and no file: for tests, examples and first steps. `gimp`: patients
whose class shows in stripes of tissue and in gene modules; `mgi`: regions whose
tumour follows genes that the image hardly shows; `subspace`: gliomas whose class and
survival depend on two gene lists.
"""
