/* A table written cell by cell as .tsv, .csv (fields in quotes where they need them) or .xlsx: one sheet, nothing compressed, texts in the
 * cells themselves. What XML cannot hold becomes U+FFFD; a cell of .xlsx holds 32,767 UTF-16 units, a longer one is refused rather than
 * cut. */
#pragma once
#include "eval/text.h"

typedef struct bif_sheet bif_sheet;
/* The form is told by the end of the name, else BIF_ERR_USAGE. */
bif_status bif_sheet_open(const char *path, bif_sheet **out);
/* The next cell of the row. number: text is a number as JSON writes it. Valid UTF-8. */
bif_status bif_sheet_cell(bif_sheet *sheet, bif_span text, bool number);
bif_status bif_sheet_row(bif_sheet *sheet); /* ends it */
/* The file appears complete under its name. Frees in every case. */
bif_status bif_sheet_commit(bif_sheet *sheet);
void bif_sheet_abandon(bif_sheet *sheet); /* NULL is allowed */
