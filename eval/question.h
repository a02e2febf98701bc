/* A list of questions, whatever file they came from: what is asked, about which pictures, under which id. bifocal's own JSONL is read here,
 * the benchmarks' files by eval/prompt_*.c. */
#pragma once
#include "base/json_scan.h"

typedef struct {
    const char *name; /* file below the image root; of an embedded picture what messages call it */
    bif_span base64; /* the encoded picture itself as text; size 0 = the file `name` */
} bif_seen;

/* All pointers live as long as the set. */
typedef struct {
    const char *id; /* as JSON: 7 or "7" */
    const char *file; /* where it stands, for messages */
    int64_t line;
    const char *prompt; /* the first human turn, to the letter */
    const char *answer, *type; /* NULL = not given */
    const bif_seen *pictures;
    int64_t images;
    bool list; /* the pictures stood as a list and are written as one */
    /* Of multiple choice: the letter and the text of each option, and the prompt without them (to rank options by their likelihood). */
    const char *const *letters, *const *options;
    int64_t option_count;
    const char *bare;
} bif_question;

typedef struct {
    bif_question *items;
    int64_t count, capacity;
    int64_t limit; /* first so many, 0 = all */
    bif_scan **files; /* open as long as the set */
    int64_t file_count;
    struct bif_score_set *tables; /* memory and files of tables (eval/tsv.h), or NULL */
    struct bif_question_block *blocks;
} bif_questions;

void bif_questions_free(bif_questions *set);
/* Memory that lives as long as the set, zeroed. */
void *bif_questions_take(bif_questions *set, size_t size);
const char *bif_questions_text(bif_questions *set, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *bif_questions_copy(bif_questions *set, const char *text, size_t size);
const char *bif_questions_id(bif_questions *set, bif_span id); /* an id as a JSON string */
bool bif_questions_full(const bif_questions *set); /* the limit is reached */
/* Zeroed but for file and line; valid until the next one. */
bif_question *bif_questions_add(bif_questions *set, const char *file, int64_t line);
/* One picture by name; or, base64 not NULL, one that is given with the question. */
void bif_question_picture(bif_questions *set, bif_question *question, const char *name, const bif_span *base64);

/* {"question_id", "image" (optional; a name or a list of names), "question" or "text", "answer" (optional), "type" or "category"
 * (optional)} a line: bifocal's and LLaVA's. BIF_ERR_DATA with file:line. */
bif_status bif_questions_jsonl(bif_questions *set, const char *path);
/* BIF_ERR_DATA: an id twice, so that a scorer could not tell their answers apart. */
bif_status bif_questions_check(bif_questions *set);
/* Over ids, prompts, options and pictures' names, in order. */
void bif_questions_digest(const bif_questions *set, char hex[33]);
