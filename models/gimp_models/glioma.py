"""Labels of glioma that the tasks of Subspace predict (spec subspace 1).

They follow from molecular findings and grade: a model that sees RNA can nearly read
them off, so results belong beside RNA alone and clinical variables alone.
"""

from __future__ import annotations

from gimp_models.errors import BatchError

__all__ = ["diagnosis_label", "grade_label"]


def diagnosis_label(
    *, idh_mutant: bool, codeleted: bool, cdkn2a_lost: bool, grade: int
) -> int:
    """Class of `TASKS["diagnosis"]`, after the WHO classification of 2021.

    Parameters
    ----------
    idh_mutant
        IDH1 or IDH2 is mutated.
    codeleted
        1p/19q is codeleted.
    cdkn2a_lost
        CDKN2A is deleted.
    grade
        2, 3 or 4, after the classification of 2016.

    Returns
    -------
    int
        0 glioblastoma, 1 astrocytoma of grade 4, 2 astrocytoma of grade 2 or 3,
        3 oligodendroglioma.

    Raises
    ------
    BatchError
        If the grade is none of these.
    """
    graded_4 = grade_label(grade) == 2
    if not idh_mutant:
        return 0
    if codeleted:
        return 3
    return 1 if cdkn2a_lost or graded_4 else 2


def grade_label(grade: int) -> int:
    """Class of `TASKS["grade"]`: grade 2, 3, 4 to 0, 1, 2.

    Raises
    ------
    BatchError
        If the grade is none of these.
    """
    if grade not in (2, 3, 4):
        raise BatchError(
            f"The grade is {grade!r}, it must be 2, 3 or 4: leave the patient out of "
            "this task, or mend the table."
        )
    return grade - 2
