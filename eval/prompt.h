/* Benchmarks as lists of prompts: their own question files, what LLaVA-1.5 puts behind a question, which file a picture is, how long an
 * answer may be. One file a family (prompt_*.c), a table in prompts.c. Names and ids are those of the scoring tasks (eval/score.h), so that
 * predictions can be scored against the benchmark's references. */
#pragma once
#include "eval/question.h"
#include "eval/score.h"

#define BIF_PROMPT_SHORT "\nAnswer the question using a single word or phrase."
#define BIF_PROMPT_LETTER "\nAnswer with the option's letter from the given choices directly."
#define BIF_PROMPT_VARIANTS 4

typedef struct {
    const char *name, *suffix; /* suffix: behind every question, newline included */
    const char *text; /* one line for --help */
} bif_prompt_variant;

typedef struct bif_prompt_reader bif_prompt_reader;
typedef struct {
    const char *name; /* of the scoring task, too */
    const char *questions; /* what --questions takes */
    const char *images; /* what --image-root is */
    bif_prompt_variant variant[BIF_PROMPT_VARIANTS]; /* the first is the default; ended by name NULL */
    int64_t max_new;
    bif_status (*read)(bif_prompt_reader *reader);
} bif_prompt_task;

extern const bif_prompt_task *const bif_prompt_tasks[]; /* ended by NULL */

typedef struct {
    const char *task; /* NULL = bifocal's and LLaVA's JSONL, whose prompts stand there */
    const char *variant; /* NULL = the first */
    const char *suffix; /* NULL = the variant's; not without a task */
} bif_prompt_options;

typedef struct {
    const bif_prompt_task *task; /* NULL: JSONL */
    const char *variant, *suffix; /* as used; NULL without a task */
} bif_prompt_used;

/* BIF_ERR_USAGE names what there is. */
bif_status bif_prompt_choose(const bif_prompt_options *options, bif_prompt_used *out);
/* Where questions and pictures come from. With files and shards the pictures are in the shards; with shards alone the questions are, too. */
typedef struct {
    const char *const *files, *const *shards;
    size_t file_count, shard_count; /* not both 0 */
    const char *caption_prompt; /* what a caption of the shards is the answer to; NULL = captions are no questions */
    const char *image_root; /* where pictures are files */
} bif_prompt_source;
const char *bif_prompt_source_name(const bif_prompt_source *source); /* the first file or shard, for messages */
/* Reads what there is, in order, into the set. BIF_ERR_DATA: malformed, an id twice, no question, or a picture that is not in the shards. */
bif_status bif_prompt_read(const bif_prompt_used *used, const bif_prompt_source *source, bif_questions *set);

/* ---- for prompt_*.c ---- */
struct bif_prompt_reader {
    bif_questions *set;
    const bif_prompt_used *used;
    const char *const *paths;
    size_t count;
};
bool bif_prompt_is(const bif_prompt_reader *reader, const char *variant);
/* Opens a file of questions; it stays open as long as the set. */
bif_status bif_prompt_open(bif_prompt_reader *reader, const char *path, bif_scan **out);
/* Reads an object: words (texts and numbers) into the fields named, the rest is skipped. */
typedef struct {
    const char *name;
    bif_span *word;
} bif_prompt_field;
bif_status bif_prompt_object(bif_scan *scan, const bif_prompt_field *fields, size_t count);
/* The prompt: text and the suffix. */
bif_question *bif_prompt_add(bif_prompt_reader *reader, const char *path, int64_t line, bif_span id, bif_span text);
/* What follows the text is "\nA. option" lines and the suffix; `bare` is the text alone. options[i].text NULL ends them. */
bif_question *bif_prompt_choice(bif_prompt_reader *reader, const char *path, int64_t line, bif_span id, bif_span text,
                                const bif_span *options, int64_t count);
void bif_prompt_picture(bif_prompt_reader *reader, bif_question *question, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Tables of VLMEvalKit (index, question, image in base64 or the index of the row that has it). row is called for each row with the picture
 * set. */
bool bif_prompt_is_table(const char *path);
bif_status bif_prompt_table(bif_prompt_reader *reader, const char *path, bool choice);

#define BIF_SPAN(span) (int)(span).size, (span).text /* for %.*s */
