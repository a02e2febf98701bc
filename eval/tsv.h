/* Tables with a header line and tabs, as VLMEvalKit keeps benchmarks, pictures in base64 included: read as pandas.read_csv(sep='\t') does.
 * A field that begins with a quote ends at the next single one ("" is one) and may hold tabs and lines; lines end with LF, CR LF or CR;
 * empty ones are skipped. */
#pragma once
#include "eval/score.h"

typedef struct {
    const char *path;
    bif_score_set *set; /* keeps what had to be unquoted */
    const char *at, *end;
    int64_t line, row_line; /* row_line: where the last row began, from 1 */
    int columns;
    bif_span *names, *fields; /* [columns]; fields of the last row, valid as long as the set; a row may have fewer, the others are empty */
} bif_tsv;

/* BIF_ERR_DATA: no header, a name twice, or not UTF-8 (fields of `image` are not looked at). */
bif_status bif_tsv_open(bif_score_set *set, const char *path, bif_tsv *out);
int bif_tsv_column(const bif_tsv *table, const char *name); /* -1 = none */
bif_status bif_tsv_row(bif_tsv *table, bool *more);         /* BIF_ERR_DATA: more fields than columns */
/* What pandas takes for nothing: "", nan, None, N/A and their like. */
bool bif_tsv_is_nothing(bif_span field);
/* The elements of a list as Python writes it, ['a', "b"], which is how several answers stand in one field; anything else is one element. */
void bif_tsv_list(bif_score_set *set, bif_span field, bif_span **out, int64_t *count);
