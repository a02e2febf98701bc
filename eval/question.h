/* A list of questions, whatever file they came from: what is asked, about which pictures, under which id. bifocal's own JSONL is read here,
 * shards by question_shards.c, the benchmarks' files by eval/prompt_*.c. */
#pragma once
#include "base/json_scan.h"
#include "data/shard.h"

typedef struct {
    const char *name; /* file below the image root; of an embedded picture what messages call it */
    bif_span base64; /* the encoded picture itself as text; size 0 = the file `name` */
    const bif_shard *shard; /* not NULL: image `number` of this shard, whose name is its content's id where the question is a shard's, too */
    int64_t number;
} bif_seen;

/* All pointers live as long as the set. */
typedef struct {
    const char *id; /* as JSON: 7 or "7" */
    const char *file; /* where it stands, for messages */
    int64_t line; /* in a shard the sample, from 0 */
    const char *prompt; /* the human turn, to the letter */
    const char *const *before; /* [turns] of the conversation before it: human, gpt, ...; its pictures are counted in `images` */
    int64_t turns;
    const char *answer, *type; /* NULL = not given */
    const char *const *answers; /* [answer_count] where they stood as a list, all right; `answer` is the first */
    int64_t answer_count;
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
    bif_shard **shards; /* open as long as the set, in the order of their digests */
    int64_t shard_count;
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

/* {"question_id", "image" (optional; a name or a list of names), "question" or "text", "answer" (optional; a text or a list of them), "type" or "category"
 * (optional)} a line: bifocal's and LLaVA's. BIF_ERR_DATA with file:line. */
bif_status bif_questions_jsonl(bif_questions *set, const char *path);
/* A path is a shard or a folder of them; the order in which they are named does not matter (data/pool.h). */
bif_status bif_questions_open_shards(bif_questions *set, const char *const *paths, size_t count);
/* Every sample of the set's shards is asked, in their order. Of a conversation each human turn is a question, with the turns before it as
 * they stand; the answer is the gpt turn behind it. A caption is the answer to caption_prompt (NULL: BIF_ERR_DATA). The id is the sample's,
 * or SHARD:NUMBER (from 0) where it is empty, no UTF-8, or another sample's, too; SHARD is the base name, with @ and the first 8 digits of
 * the digest if another shard has it. Of a question behind the first of its sample "#2", ... follows. */
bif_status bif_questions_shards(bif_questions *set, const char *caption_prompt);
/* Of every sample its picture and its caption (of a conversation the first answer), as a question without a prompt. BIF_ERR_DATA where a sample
 * has not one picture, or no caption. */
bif_status bif_questions_pairs(bif_questions *set, const char *const *shards, size_t count);
/* Questions' pictures that are files are looked for in the set's shards: a picture is that of the sample with this picture alone whose id is
 * its name, with or without folder and extension. BIF_ERR_DATA names the first that is not there, or whose name has several pictures. */
bif_status bif_questions_find_pictures(bif_questions *set);
/* The bytes (malloc'ed) of the picture of the set's shards that has this name: its content's id in 32 hex digits, or as above. BIF_ERR_DATA. */
bif_status bif_questions_shard_picture(const bif_questions *set, const char *name, char **bytes, size_t *size);
/* BIF_ERR_DATA: an id twice, so that a scorer could not tell their answers apart. */
bif_status bif_questions_check(bif_questions *set);
/* Over ids, prompts with what stands before them, options, pictures' names and the digests of shards, in order. */
void bif_questions_digest(const bif_questions *set, char hex[33]);
